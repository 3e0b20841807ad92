"""Fit a conformal tariff to the leaks of honest rows."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from modeltoll.pricing.calibration import (
    MAXIMUM_NEW_ACCOUNT_UNITS,
    NEW_ACCOUNT_QUERIES,
    Calibration,
    CalibrationProvenance,
    NewAccountToll,
)
from modeltoll.pricing.conformal_tariff import price_factors
from modeltoll.pricing.selection import PriceTargets, select_terms
from modeltoll.pricing.suspicion import SuspicionTerms
from modeltoll.pricing.validation import check_honest, require, validate
from modeltoll.records import Leaks

__all__ = ["MINIMUM_UNIT_SECONDS", "CalibrationTerms", "HoldoutSplit", "RowCosts", "fit_calibration"]

MINIMUM_UNIT_SECONDS = 0.0005


@dataclass(frozen=True, slots=True)
class CalibrationTerms:
    """The operator's choices.

    ``g``: exponent of the price, between 0 and 1; a larger g makes common rows cheaper and rare rows more expensive.
    ``weights``: one per measure, sum 1; None for equal ones. ``targets``: choose g, and weights if None, for these.
    ``new_account_queries``: the new-account toll of anonymous callers, in rows' time without a gateway, or in units if
    the unit is given. ``new_account_toll``: the toll itself, instead.
    """

    g: float = 0.8
    weights: tuple[float, ...] | None = None
    suspicion: SuspicionTerms = field(default_factory=SuspicionTerms)
    new_account_toll: NewAccountToll | None = None
    new_account_queries: float = NEW_ACCOUNT_QUERIES
    targets: PriceTargets | None = None


@dataclass(frozen=True, slots=True)
class RowCosts:
    """The costs that determine the unit (the work of an average honest row). In seconds per row, except ``overhead``.

    ``undefended_seconds``: median time of a row without a gateway. ``gate_seconds``: processing time of the gateway.
    ``overhead``: what a gateway may add to an honest row in all, as a fraction of ``undefended_seconds``.
    ``unit_seconds``: the unit itself, for models so fast that a relative toll is meaningless.
    """

    undefended_seconds: float = 0.0
    gate_seconds: float = 0.0
    overhead: float = 1.0
    unit_seconds: float | None = None

    def unit(self) -> tuple[float, tuple[str, ...]]:
        """The unit in seconds, and a warning if the gateway's own time leaves less than the minimum unit.

        Raises:
            CalibrationError: a cost is out of range.
        """
        if self.unit_seconds is not None:
            return self.unit_seconds, ()
        positive = {"undefended_seconds": self.undefended_seconds, "overhead": self.overhead}
        for name, value in positive.items():
            require(math.isfinite(value) and value > 0.0, f"'{name}' must be above 0; or give 'unit_seconds'")
        require(math.isfinite(self.gate_seconds) and self.gate_seconds >= 0.0, "'gate_seconds' must be 0 or more")
        unit = self.overhead * self.undefended_seconds - self.gate_seconds
        if unit >= MINIMUM_UNIT_SECONDS:
            return unit, ()
        warning = (
            f"the gateway's own {1000 * self.gate_seconds:.3g} ms leave {1000 * unit:.3g} ms of the "
            f"{1000 * self.overhead * self.undefended_seconds:.3g} ms that an honest row may cost; the unit is the "
            f"minimum of {1000 * MINIMUM_UNIT_SECONDS:.3g} ms instead, and honest callers pay more than was asked for"
        )
        return MINIMUM_UNIT_SECONDS, (warning,)

    def units(self, queries: float) -> float:
        """The time of that many rows without a gateway, in units; if the unit is given, ``queries`` itself.

        Raises:
            CalibrationError: a cost is out of range.
        """
        unit, _ = self.unit()
        return queries if self.unit_seconds is not None else queries * self.undefended_seconds / unit


@dataclass(frozen=True, slots=True)
class HoldoutSplit:
    """The share of honest rows that is held back for validation, and the seed of all random decisions.

    If g or weights are chosen, another share of the same size is set aside for the choice.
    """

    holdback: float = 0.2
    seed: int = 0

    def divide(self, leaks: Leaks, rng: np.random.Generator, *, choosing: bool) -> tuple[Leaks, Leaks, Leaks]:
        """Partition the rows at random into those for calibration, for the choice of terms, and for validation."""
        rows = len(leaks.values)
        held = round(self.holdback * rows)
        aside = held if choosing else 0
        parts = np.split(rng.permutation(rows), [rows - held - aside, rows - held])
        calibration, selection, validation = (Leaks(leaks.measures, leaks.values[part]) for part in parts)
        return calibration, selection, validation


def _select(leaks: Leaks, unit_seconds: float, terms: CalibrationTerms) -> tuple[float, tuple[float, ...]]:
    """g and weights: as given, or chosen on these honest rows for the targets."""
    count = len(leaks.measures)
    if terms.targets is None:
        return terms.g, (1.0 / count,) * count if terms.weights is None else terms.weights
    choice = select_terms(leaks, unit_seconds, terms.targets, terms.g, terms.weights)
    return choice.g, choice.weights


def _new_account_toll(costs: RowCosts, terms: CalibrationTerms) -> NewAccountToll:
    """The new-account toll as given, or the one worth ``new_account_queries``."""
    if terms.new_account_toll is not None:
        return terms.new_account_toll
    require(0.0 <= terms.new_account_queries < math.inf, "'new_account_queries' must be 0 or more")
    return NewAccountToll(anonymous_units=min(costs.units(terms.new_account_queries), MAXIMUM_NEW_ACCOUNT_UNITS))


def fit_calibration(
    model: str,
    leaks: Leaks,
    costs: RowCosts,
    terms: CalibrationTerms | None = None,
    provenance: CalibrationProvenance | None = None,
    split: HoldoutSplit | None = None,
) -> Calibration:
    """Fit a calibration to the leaks (rows, measures) of honest rows that the victim was not trained on.

    The report validates the tariff on rows held back. The bound on the mean price (one unit) holds for callers whose
    rows are exchangeable with these, on average over calibration sets.

    Raises:
        CalibrationError: too few rows, a measure that is constant over them, or terms out of range.
    """
    terms, split = terms or CalibrationTerms(), split or HoldoutSplit()
    warnings = check_honest(leaks)
    largest = 0.5 if terms.targets is None else 0.4
    require(0.05 <= split.holdback <= largest, f"'holdback' must lie in 0.05..{largest:g}")
    require(0.0 < terms.g < 1.0, "'g' must lie between 0 and 1")
    unit_seconds, unit_warnings = costs.unit()
    rng = np.random.default_rng(split.seed)
    fitted_on, chosen_on, held_back = split.divide(leaks, rng, choosing=terms.targets is not None)
    scores = np.sort(fitted_on.values.T.astype(np.float64), axis=1)
    scores.setflags(write=False)
    g, weights = _select(chosen_on, unit_seconds, terms)
    calibration = Calibration(
        model=model,
        measures=leaks.measures,
        scores=scores,
        weights=weights,
        g=g,
        unit_seconds=unit_seconds,
        suspicion=terms.suspicion,
        new_account_toll=_new_account_toll(costs, terms),
        undefended_seconds=costs.undefended_seconds,
        gate_seconds=costs.gate_seconds,
        provenance=provenance or CalibrationProvenance(),
    )
    report = validate(price_factors(calibration, held_back), unit_seconds, rng)
    return replace(calibration, report=replace(report, warnings=warnings + unit_warnings + report.warnings))
