"""The tolls that the bench compares: none, the published one, ours; each built from the baseline of one target."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.bench.hardware_costs import ARGON2ID, SHA256, gpu_cores
from modeltoll.bench.leak_measures import ENTROPY, NOVELTY
from modeltoll.errors import SettingsError
from modeltoll.pricing.calibration import Calibration, CalibrationProvenance
from modeltoll.pricing.conformal_tariff import ConformalTariff
from modeltoll.pricing.fit import CalibrationTerms, RowCosts, fit_calibration
from modeltoll.pricing.leak_samples import select_measures
from modeltoll.pricing.published_tariff import PublishedTariff, PublishedTerms, StandardLine
from modeltoll.pricing.unpriced_tariff import UnpricedTariff
from modeltoll.simulation.batch_tariffs import BatchCharges, ConformalBatchTariff, PublishedBatchTariff
from modeltoll.simulation.scenarios import Times

if TYPE_CHECKING:
    from modeltoll.bench.baseline import Baseline
    from modeltoll.pricing.tariff import Tariff
    from modeltoll.records import Caller, Floats
    from modeltoll.simulation.batch_tariffs import BatchTariff
    from modeltoll.simulation.traffic import Traffic

__all__ = ["CONFORMAL", "DEFAULT_MEASURES", "NO_TOLL", "PUBLISHED", "TOLLS", "FreeToll", "TollOnTarget", "build_toll"]

NO_TOLL, PUBLISHED, CONFORMAL = "none", "published", "conformal"
DEFAULT_MEASURES = (
    f"{ENTROPY}+{NOVELTY}"  # the measures that our tariff prices, joined; entropy with a third of the weight
)
_WEIGHTS = {DEFAULT_MEASURES: (1 / 3, 2 / 3)}
_GATE_SECONDS = 1.03e-3  # own_p50_ms of results/benchmarks/bench_gateway.json; it includes measuring the entropy
_ROWS_PER_STEP = 1000  # a row of the authors' traces
_PUBLISHED_BASES = {"pknn-eps": 1.05, "pknn-eps mnist": 1.18}  # Dziedzic et al. 2022; PATE's is the default


@dataclass(frozen=True, slots=True)
class FreeToll:
    """No toll: no row costs any work."""

    name: str = NO_TOLL

    def charge(self, traffic: Traffic, caller: Caller, rng: np.random.Generator) -> BatchCharges:  # noqa: ARG002  the plug's
        """Charges of 0 seconds, without suspicion."""
        return BatchCharges(np.zeros(len(traffic.leaks)), np.zeros(len(traffic.leaks), np.bool_))


@dataclass(frozen=True, slots=True, eq=False)
class TollOnTarget:
    """A toll for one target: for many rows at once (``toll``), request by request (``tariff``), and the times it adds.

    ``measures`` are those it prices. ``puzzle`` is the puzzle of its work. ``replayable``: it accepts a solution twice.
    ``calibration`` is that of our tariff, with its report on honest rows.
    """

    toll: BatchTariff
    tariff: Tariff
    times: Times
    measures: tuple[str, ...]
    puzzle: str = ARGON2ID
    replayable: bool = False
    calibration: Calibration | None = None

    def gpu_seconds(self, charged: BatchCharges) -> Floats:
        """The seconds (rows,) that a GPU takes for the work."""
        return charged.seconds / gpu_cores(self.puzzle, charged.seconds, charged.suspected)


def _gate_seconds(baseline: Baseline, measures: tuple[str, ...]) -> float:
    """The gateway's own seconds per row, with the measures that its tariff prices."""
    return _GATE_SECONDS + sum(baseline.measure_seconds[name] for name in measures if name != ENTROPY)


def _no_toll(baseline: Baseline, measure: str, target: str) -> TollOnTarget:
    del measure, target
    return TollOnTarget(FreeToll(), UnpricedTariff(baseline.measures), Times(baseline.undefended), ())


def _published_toll(baseline: Baseline, measure: str, target: str) -> TollOnTarget:
    """The paper's toll: summed cost against the standard user's line, absolute, one SHA-256 puzzle per 1000 rows."""
    leaks = select_measures(baseline.leaks(baseline.calibration.leaks), (measure,))
    line = StandardLine(float(leaks.values.mean()), 0.0)
    base = _PUBLISHED_BASES.get(f"{measure} {target}", _PUBLISHED_BASES.get(measure, PublishedTerms().base))
    terms = PublishedTerms(base=base, signed=False, rows_per_step=_ROWS_PER_STEP)
    tariff = PublishedTariff(measure, line, terms)
    toll = PublishedBatchTariff(tariff, baseline.measures)
    times = Times(baseline.undefended, _gate_seconds(baseline, (measure,)))
    return TollOnTarget(toll, tariff, times, (measure,), SHA256, replayable=True)


def _conformal_toll(baseline: Baseline, measure: str, target: str) -> TollOnTarget:
    """Our toll, calibrated on the baseline's calibration rows; a fifth of them is held out for its report."""
    measures = tuple(measure.split("+"))
    times = Times(baseline.undefended, _gate_seconds(baseline, measures))
    calibration = fit_calibration(
        target,
        select_measures(baseline.leaks(baseline.calibration.leaks), measures),
        RowCosts(undefended_seconds=times.undefended, gate_seconds=times.gate),
        CalibrationTerms(weights=_WEIGHTS.get(measure)),
        CalibrationProvenance("unseen images of the bench"),
    )
    tariff = ConformalTariff(calibration)
    return TollOnTarget(
        ConformalBatchTariff(tariff, baseline.measures), tariff, times, measures, calibration=calibration
    )


TOLLS: Mapping[str, Callable[[Baseline, str, str], TollOnTarget]] = {
    NO_TOLL: _no_toll,
    PUBLISHED: _published_toll,
    CONFORMAL: _conformal_toll,
}


def build_toll(baseline: Baseline, toll: str, measure: str, target: str) -> TollOnTarget:
    """The toll named in ``TOLLS`` for a target, pricing ``measure`` (several joined by +; empty for none).

    Raises:
        SettingsError: the baseline has no such measure. CalibrationError: no tariff can be calibrated on its honest rows.
    """
    missing = [name for name in measure.split("+") if name and name not in baseline.measures]
    if missing:
        raise SettingsError([f"{target} has no measure {', '.join(missing)}; it has: {', '.join(baseline.measures)}"])
    return TOLLS[toll](baseline, measure, target)
