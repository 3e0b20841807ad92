"""Plans replayed through tariffs: what each caller pays, and when he is suspected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.errors import CalibrationError
from modeltoll.pricing.leak_samples import CALIBRATION, HONEST
from modeltoll.simulation.engine import run_scenario
from modeltoll.simulation.scenarios import RowSource, ThiefPlan, Times, honest_scenarios, thief_scenarios
from modeltoll.simulation.traffic import sample_rows

if TYPE_CHECKING:
    from modeltoll.records import Leaks
    from modeltoll.simulation.batch_tariffs import BatchTariff
    from modeltoll.simulation.scenarios import Scenario

__all__ = ["ReplayLine", "replay_attackers"]


@dataclass(frozen=True, slots=True)
class ReplayLine:
    """One line of the table.

    ``queries`` are the wanted rows that were bought; ``seconds_without`` their undefended time. ``seconds_with`` is
    everything asked at the undefended time and the gateway's own, and the work for what was bought: ``ratio`` is
    therefore per wanted row, None where nothing was bought. ``p99_seconds`` is what 99 of 100 bought rows do not wait longer for. ``suspected`` is
    the share of accounts ever under suspicion, ``first_alarm`` the median row at which theirs began.
    ``family`` and ``level`` say where the line belongs in a figure.
    """

    mode: str
    queries: int
    seconds_without: float
    seconds_with: float
    ratio: float | None
    tariff: str
    sample: str
    family: str
    kind: str
    level: float
    accounts: int
    asked: int
    p99_seconds: float
    suspected: float
    first_alarm: float | None


def _line(
    scene: Scenario, sample: str, toll: BatchTariff, plan: ThiefPlan, times: Times, rng: np.random.Generator
) -> ReplayLine:
    played = run_scenario(scene, toll, plan.caller, times, rng)
    waits, alarms = played.waits, played.first_alarms()
    return ReplayLine(
        mode=scene.mode,
        queries=played.queries,
        seconds_without=played.seconds_without,
        seconds_with=played.seconds_with,
        ratio=played.ratio,
        tariff=toll.name,
        sample=sample,
        family=scene.family,
        kind=scene.kind,
        level=scene.level,
        accounts=played.accounts,
        asked=len(played.work),
        p99_seconds=float(np.quantile(waits, 0.99, method="higher")) if len(waits) else 0.0,
        suspected=len(alarms) / played.accounts,
        first_alarm=float(np.median(alarms)) if len(alarms) else None,
    )


def replay_attackers(
    samples: Mapping[str, Leaks], tolls: Sequence[BatchTariff], times: Times, plan: ThiefPlan, seed: int
) -> list[ReplayLine]:
    """Replay every plan of every sample through each tariff; one line each.

    ``samples`` as ``recorded.read_leaks`` gives them: ``honest`` ones are needed; those for ``calibration`` are not
    replayed, but stated p-values refer to them where they are there. Every tariff meets the same rows.

    Raises:
        CalibrationError: there is no sample of honest rows.
    """
    if HONEST not in samples:
        raise CalibrationError(f"a sample called {HONEST!r} is needed; there are: {', '.join(samples)}")
    reference = samples.get(CALIBRATION, samples[HONEST])
    source = RowSource(samples[HONEST].values, np.sort(reference.values.T, axis=1))
    lines = []
    for toll in tolls:
        rows, chance = (np.random.default_rng([seed, stream]) for stream in range(2))
        lines += [_line(scene, HONEST, toll, plan, times, chance) for scene in honest_scenarios(source, plan, rows)]
        for sample, leaks in samples.items():
            if sample not in (CALIBRATION, HONEST):
                stolen = sample_rows(leaks.values, plan.rows, rows)
                scenes = thief_scenarios(sample, stolen, source, plan, times, rows)
                lines += [_line(scene, sample, toll, plan, times, chance) for scene in scenes]
    return lines
