"""Replay recorded leaks through tariffs: the cost of each scenario, and when its accounts become suspected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.errors import CalibrationError
from modeltoll.pricing.leak_samples import CALIBRATION, HONEST, KIND
from modeltoll.simulation.engine import run_scenario
from modeltoll.simulation.scenarios import RowSource, ThiefPlan, Times, honest_scenarios, thief_scenarios
from modeltoll.simulation.traffic import Rows, sample_rows

if TYPE_CHECKING:
    from modeltoll.records import Leaks
    from modeltoll.simulation.batch_tariffs import BatchTariff
    from modeltoll.simulation.scenarios import Scenario

__all__ = ["ReplayLine", "replay_attackers"]


@dataclass(frozen=True, slots=True)
class ReplayLine:
    """One line of the table.

    ``queries``: wanted rows that are bought. ``seconds_without``: their undefended time. ``seconds_with``: undefended
    time and gateway time of all rows, and the work of those that are bought. ``ratio``: the quotient of these, None if
    nothing is bought. ``asked``: all rows. ``p99_seconds``: 99th percentile of the waits of bought rows. ``suspected``:
    share of accounts ever under suspicion. ``first_alarm``: median row at which that began. ``family``, ``kind`` and
    ``level`` are for figures.
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
    scenario: Scenario, sample: str, tariff: BatchTariff, plan: ThiefPlan, times: Times, rng: np.random.Generator
) -> ReplayLine:
    result = run_scenario(scenario, tariff, plan.caller, times, rng)
    waits, alarms = result.waits, result.first_alarms()
    return ReplayLine(
        mode=scenario.mode,
        queries=result.queries,
        seconds_without=result.seconds_without,
        seconds_with=result.seconds_with,
        ratio=result.ratio,
        tariff=tariff.name,
        sample=sample,
        family=scenario.family,
        kind=scenario.kind,
        level=scenario.level,
        accounts=result.accounts,
        asked=len(result.work),
        p99_seconds=float(np.quantile(waits, 0.99, method="higher")) if len(waits) else 0.0,
        suspected=len(alarms) / result.accounts,
        first_alarm=float(np.median(alarms)) if len(alarms) else None,
    )


def replay_attackers(
    samples: Mapping[str, Leaks], tariffs: Sequence[BatchTariff], times: Times, plan: ThiefPlan, seed: int
) -> list[ReplayLine]:
    """Replay every scenario of every sample through each tariff; one line each.

    Args:
        samples: leaks by name, as of ``leak_samples.read_leaks``. ``honest`` is required. ``calibration`` is not
            replayed, but given p-values refer to it if it exists. Rows of ``kind:NAME`` are those of honest callers.
        tariffs: the tariffs to compare; all of them get the same rows.
        times: seconds per row without toll.
        plan: what to simulate.
        seed: of the random generators.

    Raises:
        CalibrationError: there is no sample of honest rows.
    """
    if HONEST not in samples:
        raise CalibrationError(f"a sample called {HONEST!r} is needed; there are: {', '.join(samples)}")
    reference = samples.get(CALIBRATION, samples[HONEST])
    kinds = {name.removeprefix(KIND): Rows.of(leaks) for name, leaks in samples.items() if name.startswith(KIND)}
    source = RowSource(Rows.of(samples[HONEST]), np.sort(reference.values.T, axis=1), kinds)
    lines = []
    for tariff in tariffs:
        row_rng, tariff_rng = (np.random.default_rng([seed, stream]) for stream in range(2))
        lines += [
            _line(scenario, HONEST, tariff, plan, times, tariff_rng)
            for scenario in honest_scenarios(source, plan, row_rng)
        ]
        for sample, leaks in samples.items():
            if sample not in (CALIBRATION, HONEST) and not sample.startswith(KIND):
                stolen = sample_rows(Rows.of(leaks), plan.rows, row_rng)
                scenarios = thief_scenarios(sample, stolen, source, plan, times, row_rng)
                lines += [_line(scenario, sample, tariff, plan, times, tariff_rng) for scenario in scenarios]
    return lines
