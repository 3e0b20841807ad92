"""Fit a tariff to honest traces and targets. The result is data; ``calibration_file`` keeps it."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.errors import CalibrationError
from modeltoll.pricing.conformal import price_factors
from modeltoll.pricing.selection import PriceTargets, select_terms
from modeltoll.pricing.suspicion import SuspicionTerms, bin_edges
from modeltoll.pricing.validation import MINIMUM_ROWS, CalibrationReport, check_honest, validate
from modeltoll.records import Leaks

if TYPE_CHECKING:
    from modeltoll.records import Account, Caller, Floats

__all__ = [
    "ENTRY_QUERIES",
    "MINIMUM_ROWS",
    "MINIMUM_UNIT_SECONDS",
    "Calibration",
    "CalibrationReport",
    "CalibrationTerms",
    "HoldoutSplit",
    "NewAccountToll",
    "PriceTargets",
    "Provenance",
    "RowCosts",
    "fit_calibration",
]

ENTRY_QUERIES = 200.0  # over ten rows: whoever asks no more from an account pays 20 times the undefended time for each
MINIMUM_UNIT_SECONDS = 0.0005
_MAXIMUM_UNIT_SECONDS = 86_400.0
_MAXIMUM_ENTRY_UNITS = 1e6


def _require(holds: bool, fault: str) -> None:
    if not holds:
        raise CalibrationError(fault)


@dataclass(frozen=True, slots=True)
class NewAccountToll:
    """What a new caller pays beside his rows, in units, in equal shares with each of his first ``rows`` rows.

    ``anonymous_units`` where only a network prefix is known of the caller, ``keyed_units`` where he has a key.

    Raises:
        CalibrationError: a term is out of range.
    """

    anonymous_units: float = ENTRY_QUERIES
    keyed_units: float = 0.0
    rows: int = 10

    def __post_init__(self) -> None:
        for name in ("anonymous_units", "keyed_units"):
            sound = 0.0 <= getattr(self, name) <= _MAXIMUM_ENTRY_UNITS
            _require(sound, f"'entry.{name}' must lie in 0..{_MAXIMUM_ENTRY_UNITS:,.0f} units")
        _require(1 <= self.rows <= 1_000_000, "'entry.rows' must lie in 1..1000000")

    def units(self, account: Account, rows: int) -> float:
        """The share that falls on a request of ``rows`` rows, which the account already holds.

        However the caller splits his rows into requests, the shares sum to the whole, once.
        """
        shares = min(account.rows, self.rows) - min(account.rows - rows, self.rows)
        return self.whole(account.caller) * shares / self.rows

    def whole(self, caller: Caller) -> float:
        """What the caller pays in all, in units."""
        return self.anonymous_units if caller.anonymous else self.keyed_units


@dataclass(frozen=True, slots=True)
class CalibrationTerms:
    """What the operator decides. ``weights`` sum to 1, one per measure; None shares equally. 0 < ``g`` < 1 bends the
    price: the larger, the cheaper the ordinary row and the dearer the rare one. With ``targets``, g is chosen for them,
    and so are weights that are not stated. ``entry_queries`` is what an anonymous caller's entry toll is worth: so many
    rows' time without a gateway, or so many units where the unit itself was stated; ``entry`` states the toll instead."""

    g: float = 0.8
    weights: tuple[float, ...] | None = None
    suspicion: SuspicionTerms = field(default_factory=SuspicionTerms)
    entry: NewAccountToll | None = None
    entry_queries: float = ENTRY_QUERIES
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
            _require(math.isfinite(value) and value > 0.0, f"'{name}' must be above 0; or give 'unit_seconds'")
        _require(math.isfinite(self.gate_seconds) and self.gate_seconds >= 0.0, "'gate_seconds' must be 0 or more")
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
class Provenance:
    """Where a calibration comes from: the honest rows, the command, the date (ISO 8601) and the machine."""

    source: str = ""
    command: str = ""
    created: str = ""
    machine: str = ""


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


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """Everything that a conformal tariff is made from.

    ``scores`` (measures, n): the leaks of n honest rows, ascending in each row of the array. ``weights`` sum to 1.
    ``undefended_seconds`` and ``gate_seconds`` are what the unit was made from, 0 where that was not measured; no
    price depends on them.

    Raises:
        CalibrationError: a member is out of range or does not fit the others.
    """

    model: str
    measures: tuple[str, ...]
    scores: Floats
    weights: tuple[float, ...]
    g: float
    unit_seconds: float
    suspicion: SuspicionTerms = field(default_factory=SuspicionTerms)
    entry: NewAccountToll = field(default_factory=NewAccountToll)
    undefended_seconds: float = 0.0
    gate_seconds: float = 0.0
    provenance: Provenance = field(default_factory=Provenance)
    report: CalibrationReport | None = None

    def __post_init__(self) -> None:
        count = len(self.measures)
        _require(self.model != "", "'model' must not be empty")
        _require(count > 0 and "" not in self.measures, "'measures' must be one or more names")
        _require(len(set(self.measures)) == count, "'measures' must not repeat a name")
        fits = self.scores.ndim == 2 and len(self.scores) == count and self.scores.shape[1] > 0
        _require(fits, "'scores' must hold one list per measure, of one length above 0")
        finite = bool(np.isfinite(self.scores).all()) and bool((self.scores >= 0.0).all())
        _require(finite, "'scores' must be finite and 0 or more")
        _require(bool((np.diff(self.scores) >= 0.0).all()), "'scores' must ascend")
        shares = len(self.weights) == count and all(0.0 <= weight <= 1.0 for weight in self.weights)
        summed = shares and abs(math.fsum(self.weights) - 1.0) < 1e-9
        _require(summed, "'weights' must be one share per measure, summing to 1")
        _require(0.0 < self.g < 1.0, "'g' must lie between 0 and 1")
        _require(0.0 < self.unit_seconds <= _MAXIMUM_UNIT_SECONDS, "'unit_seconds' must be above 0, a day at most")
        for name in ("undefended_seconds", "gate_seconds"):
            _require(0.0 <= getattr(self, name) <= _MAXIMUM_UNIT_SECONDS, f"'{name}' must lie in 0..a day")

    @property
    def honest(self) -> int:
        """How many honest rows it holds: n."""
        return int(self.scores.shape[1])

    @property
    def identity(self) -> str:
        """SHA-256, in hexadecimal, of what p-value counts mean: model, measures, scores and the edges of the bins.

        Another g, unit or entry toll prices the same counts.
        """
        members = {"model": self.model, "measures": self.measures, "edges": bin_edges(self.honest)}
        digest = hashlib.sha256(json.dumps(members, sort_keys=True).encode("ascii"))
        digest.update(np.ascontiguousarray(self.scores, dtype="<f8").tobytes())
        return digest.hexdigest()


def _chosen(leaks: Leaks, unit_seconds: float, terms: CalibrationTerms) -> tuple[float, tuple[float, ...]]:
    """g and weights: those stated, or chosen on these honest rows for the targets."""
    count = len(leaks.measures)
    if terms.targets is None:
        return terms.g, (1.0 / count,) * count if terms.weights is None else terms.weights
    choice = select_terms(leaks, unit_seconds, terms.targets, terms.g, terms.weights)
    return choice.g, choice.weights


def _new_account_toll(costs: RowCosts, terms: CalibrationTerms) -> NewAccountToll:
    """The entry toll that is stated, or the one worth the queries that are."""
    if terms.entry is not None:
        return terms.entry
    _require(0.0 <= terms.entry_queries < math.inf, "'entry_queries' must be 0 or more")
    return NewAccountToll(anonymous_units=min(costs.units(terms.entry_queries), _MAXIMUM_ENTRY_UNITS))


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
    _require(0.05 <= split.holdback <= most, f"'holdback' must lie in 0.05..{most:g}")
    _require(0.0 < terms.g < 1.0, "'g' must lie between 0 and 1")
    unit_seconds, unit_warnings = costs.unit()
    rng = np.random.default_rng(split.seed)
    kept, chosen_on, held_back = split.parts(leaks, rng, choosing=terms.targets is not None)
    scores = np.sort(kept.values.T.astype(np.float64), axis=1)
    scores.setflags(write=False)
    g, weights = _chosen(chosen_on, unit_seconds, terms)
    calibration = Calibration(
        model=model,
        measures=leaks.measures,
        scores=scores,
        weights=weights,
        g=g,
        unit_seconds=unit_seconds,
        suspicion=terms.suspicion,
        entry=_new_account_toll(costs, terms),
        undefended_seconds=costs.undefended_seconds,
        gate_seconds=costs.gate_seconds,
        provenance=provenance or Provenance(),
    )
    report = validate(price_factors(calibration, held_back), unit_seconds, rng)
    return replace(calibration, report=replace(report, warnings=warnings + unit_warnings + report.warnings))
