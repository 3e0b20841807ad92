"""What a fit is told: the operator's terms, the costs of a row, and how rows are held back."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.pricing.calibration import (
    KIND_PRICE_ROWS,
    MAXIMUM_NEW_ACCOUNT_UNITS,
    NEW_ACCOUNT_QUERIES,
    NewAccountToll,
)
from modeltoll.pricing.suspicion import SuspicionTerms
from modeltoll.pricing.validation import require

if TYPE_CHECKING:
    from modeltoll.pricing.selection import PriceTargets
    from modeltoll.records import Integers

__all__ = [
    "CLASS_ROWS",
    "MINIMUM_UNIT_SECONDS",
    "CalibrationTerms",
    "HoldoutSplit",
    "RowCosts",
    "new_account_toll",
]

CLASS_ROWS = 100  # of fewer rows the cells' shares are so uncertain that the kind of a class would hide strangers

MINIMUM_UNIT_SECONDS = 0.0005
_LEAST_HELD_BACK, _MOST_HELD_BACK = 50, 1000  # of a kind that prices rows; more say no more about it
_CHOOSING = 0.2  # share of a kind's rows held back that g and weights are chosen on instead


@dataclass(frozen=True, slots=True)
class CalibrationTerms:
    """The operator's choices.

    ``g``: exponent of the price, between 0 and 1; a larger g makes common rows cheaper and rare rows more expensive.
    ``weights``: one per measure, sum 1; None for equal ones. ``targets``: choose g, and weights if None, for these.
    ``coordinates``: the one or two measures by which suspicion sorts rows into cells; () for the first by weight of those
    that read answers, and of those that read inputs, which ``input_measures`` names.
    ``class_rows``: rows of a predicted class from which on it is a kind of its own.
    ``new_account_queries``: the new-account toll of anonymous callers, in rows' time without a gateway, or in units if
    the unit is given. ``new_account_toll``: the toll itself, instead.
    """

    g: float = 0.8
    weights: tuple[float, ...] | None = None
    suspicion: SuspicionTerms = field(default_factory=SuspicionTerms)
    new_account_toll: NewAccountToll | None = None
    new_account_queries: float = NEW_ACCOUNT_QUERIES
    targets: PriceTargets | None = None
    coordinates: tuple[str, ...] = ()
    input_measures: tuple[str, ...] = ("novelty",)
    class_rows: int = CLASS_ROWS


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
        left = f"{1000 * unit:.3g} ms" if unit > 0.0 else "nothing"
        warning = (
            f"the gateway's own {1000 * self.gate_seconds:.3g} ms leave {left} of the "
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

    If g or weights are chosen, another share of the same size is set aside for the choice. Of a kind of which more than
    ``KIND_PRICE_ROWS`` are there by ``_LEAST_HELD_BACK``, these are left to price rows with, or half of them if that is more,
    or all but ``_MOST_HELD_BACK``.
    """

    holdback: float = 0.2
    seed: int = 0

    def divide(self, rows: int, rng: np.random.Generator, *, choosing: bool) -> tuple[Integers, Integers, Integers]:
        """Partition row numbers at random into those for calibration, for the choice of terms, and for validation."""
        held = round(self.holdback * rows)
        aside = held if choosing else 0
        calibration, selection, validation = np.split(rng.permutation(rows), [rows - held - aside, rows - held])
        return calibration, selection, validation

    def divide_kind(
        self, rows: int, rng: np.random.Generator, *, choosing: bool = False
    ) -> tuple[Integers, Integers, Integers]:
        """Partition the row numbers of one kind at random, as ``divide`` does; only kinds that price rows are chosen on."""
        spare = rows - KIND_PRICE_ROWS
        prices = spare >= _LEAST_HELD_BACK
        held = min(rows // 2, spare, _MOST_HELD_BACK) if prices else round(self.holdback * rows)
        aside = round(_CHOOSING * held) if choosing and prices else 0
        calibration, selection, validation = np.split(rng.permutation(rows), [rows - held, rows - held + aside])
        return calibration, selection, validation


def new_account_toll(costs: RowCosts, terms: CalibrationTerms) -> NewAccountToll:
    """The new-account toll as given, or the one worth ``new_account_queries``."""
    if terms.new_account_toll is not None:
        return terms.new_account_toll
    require(0.0 <= terms.new_account_queries < math.inf, "'new_account_queries' must be 0 or more")
    return NewAccountToll(anonymous_units=min(costs.units(terms.new_account_queries), MAXIMUM_NEW_ACCOUNT_UNITS))
