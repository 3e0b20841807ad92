"""Fit a conformal tariff to the leaks of honest rows: what the operator decides, what a row costs, and the fit itself."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from modeltoll.pricing.calibration import (
    MAXIMUM_NEW_ACCOUNT_UNITS,
    NEW_ACCOUNT_QUERIES,
    Calibration,
    NewAccountToll,
    Provenance,
)
from modeltoll.pricing.conformal import price_factors
from modeltoll.pricing.selection import PriceTargets, select_terms
from modeltoll.pricing.suspicion import SuspicionTerms
from modeltoll.pricing.validation import check_honest, require, validate
from modeltoll.records import Leaks

__all__ = ["MINIMUM_UNIT_SECONDS", "CalibrationTerms", "HoldoutSplit", "RowCosts", "fit_calibration"]

MINIMUM_UNIT_SECONDS = 0.0005


@dataclass(frozen=True, slots=True)
class CalibrationTerms:
    """What the operator decides. ``weights`` sum to 1, one per measure; None shares equally. 0 < ``g`` < 1 bends the
    price: the larger, the cheaper the ordinary row and the dearer the rare one. With ``targets``, g is chosen for them,
    and so are weights that are not stated. ``new_account_queries`` is what an anonymous caller's entry toll is worth: so many
    rows' time without a gateway, or so many units where the unit itself was stated; ``new_account_toll`` states the toll instead."""

    g: float = 0.8
    weights: tuple[float, ...] | None = None
    suspicion: SuspicionTerms = field(default_factory=SuspicionTerms)
    new_account_toll: NewAccountToll | None = None
    new_account_queries: float = NEW_ACCOUNT_QUERIES
    targets: PriceTargets | None = None


@dataclass(frozen=True, slots=True)
class RowCosts:
    """What the unit, the work of an average honest row, is made from. All in seconds per row but ``overhead``.

    ``undefended_seconds``: median time of one row without a gateway. ``gate_seconds``: the gateway's own time.
    ``overhead``: the part of the undefended time that an honest row may cost on top, everything included.
    ``unit_seconds``: the unit itself, for models so fast that a relative toll means nothing.
    """

    undefended_seconds: float = 0.0
    gate_seconds: float = 0.0
    overhead: float = 1.0
    unit_seconds: float | None = None

    def unit(self) -> tuple[float, tuple[str, ...]]:
        """The unit in seconds, and a warning where the gateway's own time eats it.

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
        """What the time of so many rows without a gateway is, in units; where the unit was stated, that many units.

        Raises:
            CalibrationError: a cost is out of range.
        """
        unit, _ = self.unit()
        return queries if self.unit_seconds is not None else queries * self.undefended_seconds / unit


@dataclass(frozen=True, slots=True)
class HoldoutSplit:
    """Which share of the honest rows is kept back, and the seed of everything that chance decides.

    Where g or weights are chosen, as large a share again is set aside to choose on.
    """

    holdback: float = 0.2
    seed: int = 0

    def parts(self, leaks: Leaks, rng: np.random.Generator, *, choosing: bool) -> tuple[Leaks, Leaks, Leaks]:
        """Rows to calibrate on, to choose on and to keep back: every row is in one of them."""
        rows = len(leaks.values)
        back = round(self.holdback * rows)
        aside = back if choosing else 0
        parts = np.split(rng.permutation(rows), [rows - back - aside, rows - back])
        kept, chosen_on, held_back = (Leaks(leaks.measures, leaks.values[part]) for part in parts)
        return kept, chosen_on, held_back


def _select(leaks: Leaks, unit_seconds: float, terms: CalibrationTerms) -> tuple[float, tuple[float, ...]]:
    """g and weights: those stated, or chosen on these honest rows for the targets."""
    count = len(leaks.measures)
    if terms.targets is None:
        return terms.g, (1.0 / count,) * count if terms.weights is None else terms.weights
    choice = select_terms(leaks, unit_seconds, terms.targets, terms.g, terms.weights)
    return choice.g, choice.weights


def _new_account_toll(costs: RowCosts, terms: CalibrationTerms) -> NewAccountToll:
    """The entry toll that is stated, or the one worth the queries that are."""
    if terms.new_account_toll is not None:
        return terms.new_account_toll
    require(0.0 <= terms.new_account_queries < math.inf, "'new_account_queries' must be 0 or more")
    return NewAccountToll(anonymous_units=min(costs.units(terms.new_account_queries), MAXIMUM_NEW_ACCOUNT_UNITS))


def fit_calibration(
    model: str,
    leaks: Leaks,
    costs: RowCosts,
    terms: CalibrationTerms | None = None,
    provenance: Provenance | None = None,
    split: HoldoutSplit | None = None,
) -> Calibration:
    """A calibration from the leaks of honest rows that the victim was not trained on, with a report on rows kept back.

    The promise holds for callers whose rows are exchangeable with these, on average over calibration sets.

    Raises:
        CalibrationError: too few rows, a measure that tells no two rows apart, or terms out of range.
    """
    terms, split = terms or CalibrationTerms(), split or HoldoutSplit()
    warnings = check_honest(leaks)
    most = 0.5 if terms.targets is None else 0.4
    require(0.05 <= split.holdback <= most, f"'holdback' must lie in 0.05..{most:g}")
    require(0.0 < terms.g < 1.0, "'g' must lie between 0 and 1")
    unit_seconds, unit_warnings = costs.unit()
    rng = np.random.default_rng(split.seed)
    kept, chosen_on, held_back = split.parts(leaks, rng, choosing=terms.targets is not None)
    scores = np.sort(kept.values.T.astype(np.float64), axis=1)
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
        provenance=provenance or Provenance(),
    )
    report = validate(price_factors(calibration, held_back), unit_seconds, rng)
    return replace(calibration, report=replace(report, warnings=warnings + unit_warnings + report.warnings))
