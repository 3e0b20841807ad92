"""The tolls that the bench compares: none, the published one, ours; each built from the baseline of one target."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.bench.hardware_costs import ARGON2ID, SHA256, gpu_cores
from modeltoll.bench.leak_measures import ENTROPY, NOVELTY
from modeltoll.bench.targets import TARGETS
from modeltoll.errors import SettingsError
from modeltoll.gateway.core.credit import DEFAULT_CREDIT
from modeltoll.names import clean_name
from modeltoll.pricing.calibration import Calibration, CalibrationProvenance
from modeltoll.pricing.conformal_tariff import ConformalTariff
from modeltoll.pricing.fit import CalibrationTerms, FitSamples, RowCosts, fit_with_rows_held_back
from modeltoll.pricing.kinds import DECLARED, KindSample, StrangerSample
from modeltoll.pricing.leak_samples import select_measures, with_clean
from modeltoll.pricing.published_tariff import PublishedTariff, PublishedTerms, StandardLine
from modeltoll.pricing.rehearsal import raise_rho0
from modeltoll.pricing.suspicion import SuspicionTerms
from modeltoll.pricing.unpriced_tariff import UnpricedTariff
from modeltoll.simulation.batch_tariffs import BatchCharges, ConformalBatchTariff, PublishedBatchTariff
from modeltoll.simulation.scenarios import Times

if TYPE_CHECKING:
    from modeltoll.bench.baseline import Baseline
    from modeltoll.pricing.tariff import Tariff
    from modeltoll.records import Caller, Floats, Leaks
    from modeltoll.simulation.batch_tariffs import BatchTariff
    from modeltoll.simulation.settlement import SettlementTerms
    from modeltoll.simulation.traffic import Rows, Traffic

__all__ = [
    "CALIBRATED",
    "CLASSES_ONLY",
    "CONFORMAL",
    "DEFAULT_MEASURES",
    "NO_TOLL",
    "OUR_TOLLS",
    "PUBLISHED",
    "TOLLS",
    "UNKNOWN_STRANGERS",
    "WITHOUT_KINDS",
    "ConformalTerms",
    "FreeToll",
    "TollChoice",
    "TollOnTarget",
    "build_toll",
]

NO_TOLL, PUBLISHED, CONFORMAL = "none", "published", "conformal"
CALIBRATED, UNKNOWN_STRANGERS = "conformal-calibrated", "conformal-unknown-strangers"
WITHOUT_KINDS, CLASSES_ONLY = "conformal-without-kinds", "conformal-classes-only"
DEFAULT_MEASURES = (
    f"{ENTROPY}+{NOVELTY}"  # the measures that our tariff prices, joined; entropy with a third of the weight
)
_WEIGHTS = {DEFAULT_MEASURES: (1 / 3, 2 / 3)}
_COORDINATES = 2  # of the cells, at most; of more measures the tariff chooses two
_ROWS_PER_STEP = 1000  # a row of the authors' traces
_PUBLISHED_BASES = {"pknn-eps": 1.05, "pknn-eps mnist": 1.18}  # Dziedzic et al. 2022; PATE's is the default


@dataclass(frozen=True, slots=True)
class FreeToll:
    """No toll: no row costs any work."""

    name: str = NO_TOLL

    def charge(self, traffic: Traffic, caller: Caller, rng: np.random.Generator) -> BatchCharges:  # noqa: ARG002  the plug's
        """Charges of 0 seconds, without suspicion."""
        return BatchCharges(np.zeros(len(traffic.leaks)), np.zeros(len(traffic.leaks), np.bool_))

    def settlement(self, caller: Caller) -> SettlementTerms | None:
        """None: there are no tolls."""
        del caller
        return None


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
    times = baseline.times
    return times.gate + sum(times.measures[name] for name in measures if name != ENTROPY)


@dataclass(frozen=True, slots=True)
class ConformalTerms:
    """What an operator of our toll declares and knows.

    ``kinds``: declares the target's kinds. ``classes``: knows the predicted classes of the calibration's rows.
    ``strangers``: knows families of strangers; ``thief_known``: that of the thief among them. ``rho``: the tolerance.
    ``raised``: rho0 is raised until the rehearsal suspects no honest kind; else it is the default.
    """

    kinds: bool = True
    classes: bool = True
    strangers: bool = True
    thief_known: bool = True
    rho: float = 0.25
    raised: bool = False


OUR_TOLLS: Mapping[str, ConformalTerms] = {
    CONFORMAL: ConformalTerms(),
    CALIBRATED: ConformalTerms(raised=True),
    UNKNOWN_STRANGERS: ConformalTerms(thief_known=False),
    CLASSES_ONLY: ConformalTerms(kinds=False),
    WITHOUT_KINDS: ConformalTerms(kinds=False, classes=False, strangers=False),
    **{f"{CONFORMAL}-rho-{rho:g}": ConformalTerms(rho=rho) for rho in (0.1, 0.5, 1.0)},
}


@dataclass(frozen=True, slots=True)
class TollChoice:
    """What a toll is built for: the target, the measures to price, and the source of the thief's foreign images.

    ``foreign`` is empty where the toll does not depend on it.
    """

    target: str
    measures: tuple[str, ...]
    foreign: str


def _no_toll(baseline: Baseline, choice: TollChoice) -> TollOnTarget:
    del choice
    return TollOnTarget(FreeToll(), UnpricedTariff(baseline.measures), Times(baseline.times.undefended), ())


def _published_toll(baseline: Baseline, choice: TollChoice) -> TollOnTarget:
    """The paper's toll: summed cost against the standard user's line, absolute, one SHA-256 puzzle per 1000 rows."""
    (measure,) = choice.measures
    leaks = select_measures(baseline.leaks(baseline.calibration.rows), (measure,))
    line = StandardLine(float(leaks.values.mean()), 0.0)
    base = _PUBLISHED_BASES.get(f"{measure} {choice.target}", _PUBLISHED_BASES.get(measure, PublishedTerms().base))
    terms = PublishedTerms(base=base, signed=False, rows_per_step=_ROWS_PER_STEP)
    tariff = PublishedTariff(measure, line, terms)
    toll = PublishedBatchTariff(tariff, baseline.measures)
    times = Times(baseline.times.undefended, _gate_seconds(baseline, (measure,)))
    return TollOnTarget(toll, tariff, times, (measure,), SHA256, replayable=True)


def _conformal_toll(name: str, terms: ConformalTerms, baseline: Baseline, choice: TollChoice) -> TollOnTarget:
    """Our toll, calibrated on the baseline's calibration rows, kinds and strangers; a part is held out for its report."""
    measures = choice.measures
    if not terms.kinds and not terms.classes:  # as before there were kinds: by the measures fitted without them
        measures = tuple(clean if (clean := clean_name(each)) in baseline.measures else each for each in measures)
    times = Times(baseline.times.undefended, _gate_seconds(baseline, choice.measures))
    fit = fit_with_rows_held_back(
        choice.target,
        _samples(baseline, terms, measures, choice.foreign),
        RowCosts(undefended_seconds=times.undefended, gate_seconds=times.gate),
        CalibrationTerms(
            weights=_WEIGHTS.get("+".join(choice.measures)),
            suspicion=SuspicionTerms(rho=terms.rho),
            coordinates=measures if len(measures) <= _COORDINATES else (),
        ),
        CalibrationProvenance("unseen images of the bench"),
    )
    calibration = raise_rho0(fit.calibration, fit.held_back)[0] if terms.raised else fit.calibration
    tariff = ConformalTariff(calibration)
    toll = ConformalBatchTariff(tariff, baseline.measures, name, DEFAULT_CREDIT.at)
    return TollOnTarget(toll, tariff, times, measures, calibration=calibration)


def _samples(baseline: Baseline, terms: ConformalTerms, measures: tuple[str, ...], thief: str) -> FitSamples:
    """The honest rows, kinds and strangers that an operator of these terms has."""
    recorded = with_clean(baseline.measures, measures)

    def leaks(rows: Rows) -> Leaks:
        known = select_measures(baseline.leaks(rows), recorded)
        return known if terms.classes else replace(known, classes=None)

    declared = baseline.declared.items() if terms.kinds else ()
    strangers = baseline.strangers.items() if terms.strangers else ()
    return FitSamples(
        leaks(baseline.calibration.rows),
        tuple(KindSample(name, DECLARED, leaks(rows)) for name, rows in declared),
        tuple(StrangerSample(name, leaks(rows)) for name, rows in strangers if terms.thief_known or name != thief),
    )


TOLLS: Mapping[str, Callable[[Baseline, TollChoice], TollOnTarget]] = {
    NO_TOLL: _no_toll,
    PUBLISHED: _published_toll,
    **{name: partial(_conformal_toll, name, terms) for name, terms in OUR_TOLLS.items()},
}


def build_toll(baseline: Baseline, toll: str, measure: str, target: str, foreign: str = "") -> TollOnTarget:
    """The toll named in ``TOLLS`` for a target, pricing ``measure`` (several joined by +; empty for none).

    ``foreign``: the source of the thief's foreign images; empty for the target's usual one.

    Raises:
        SettingsError: the baseline has no such measure. CalibrationError: no tariff can be calibrated on its honest rows.
    """
    measures = tuple(name for name in measure.split("+") if name)
    missing = [name for name in measures if name not in baseline.measures]
    if missing:
        raise SettingsError([f"{target} has no measure {', '.join(missing)}; it has: {', '.join(baseline.measures)}"])
    depends_on_thief = toll in OUR_TOLLS and not OUR_TOLLS[toll].thief_known
    thief = (foreign or TARGETS[target].foreign) if depends_on_thief else ""
    return _build(baseline, toll, TollChoice(target, measures, thief))


@lru_cache(maxsize=16)
def _build(baseline: Baseline, toll: str, choice: TollChoice) -> TollOnTarget:
    return TOLLS[toll](baseline, choice)
