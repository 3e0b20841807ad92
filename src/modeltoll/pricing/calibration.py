"""The data of a conformal tariff, as ``fit`` makes it and ``calibration_file`` stores it."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.pricing.cells import Cells
from modeltoll.pricing.kinds import ALL_TRAFFIC, CALLER, DECLARED, FittedKind, FittedStranger
from modeltoll.pricing.suspicion import SuspicionTerms
from modeltoll.pricing.validation import CalibrationReport, require

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from modeltoll.records import Caller, Floats, Integers

__all__ = [
    "KIND_PRICE_ROWS",
    "MAXIMUM_NEW_ACCOUNT_UNITS",
    "NEW_ACCOUNT_QUERIES",
    "Calibration",
    "CalibrationProvenance",
    "KindReport",
    "NewAccountToll",
    "PricedClass",
    "default_coordinates",
    "independent_counts",
]

# Over ``NEW_ACCOUNT_ROWS`` rows, so that accounts of no more rows pay 20 times the undefended time for each row.
NEW_ACCOUNT_QUERIES = 200.0
_MAXIMUM_UNIT_SECONDS = 86_400.0
MAXIMUM_NEW_ACCOUNT_UNITS = 1e6
KIND_PRICE_ROWS = 1000  # of a declared kind, from which on it enters the price of every caller's rows
_MAXIMUM_CLASS = 2**31  # the number of a predicted class is below it
_COORDINATES = 2  # of the cells, at most


@dataclass(frozen=True, slots=True)
class NewAccountToll:
    """The toll of a new account, in units, in equal shares with each of its first ``NEW_ACCOUNT_ROWS`` rows.

    ``anonymous_units``: in all, for callers known by their address only. ``keyed_units``: for callers with a key.

    Raises:
        CalibrationError: a term is out of range.
    """

    anonymous_units: float = NEW_ACCOUNT_QUERIES
    keyed_units: float = 0.0

    def __post_init__(self) -> None:
        for name in ("anonymous_units", "keyed_units"):
            valid = 0.0 <= getattr(self, name) <= MAXIMUM_NEW_ACCOUNT_UNITS
            require(valid, f"'entry.{name}' must lie in 0..{MAXIMUM_NEW_ACCOUNT_UNITS:,.0f} units")

    def total_units(self, caller: Caller) -> float:
        """The sum over all rows of a new account of this caller, in units."""
        return self.anonymous_units if caller.anonymous else self.keyed_units


@dataclass(frozen=True, slots=True)
class CalibrationProvenance:
    """The origin of a calibration: source of the honest rows, command, date (ISO 8601) and machine."""

    source: str = ""
    command: str = ""
    created: str = ""
    machine: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class PricedClass:
    """Predicted classes whose rows are priced among the honest rows of these classes too.

    ``scores`` (measures, n): the leaks of those rows, ascending for each measure.
    """

    classes: tuple[int, ...]
    scores: Floats


@dataclass(frozen=True, slots=True)
class KindReport:
    """What a kind of honest rows, or an honest caller, pays on rows held back.

    ``name``, ``role``, ``label``: as in ``KindSample``. ``rows``: held back. ``mean_units``: mean factor, with a 95 %
    ``interval``. ``p99_seconds``: 99 % of the rows wait no longer. ``max_log_evidence``: the largest logarithm of the evidence
    against any honest caller that was simulated from them. ``suspected_at``: the first row at which one was suspected; None
    where none was.
    """

    name: str
    role: str
    rows: int
    mean_units: float
    interval: tuple[float, float]
    p99_seconds: float
    max_log_evidence: float
    suspected_at: int | None = None
    label: str = ""

    def __post_init__(self) -> None:
        low, high = self.interval
        numbers = (self.mean_units, low, high, self.p99_seconds)
        valid = all(0.0 <= number < math.inf for number in numbers) and low <= high
        require(valid, "'kind_reports' must hold prices and waits that are finite and 0 or more")
        require(math.isfinite(self.max_log_evidence), "'kind_reports' must hold finite logarithms of evidence")
        require(self.rows >= 0, "'kind_reports' must hold numbers of rows of 0 or more")
        require(self.suspected_at is None or self.suspected_at > 0, "'kind_reports' must count rows from 1")


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """The data of a conformal tariff.

    ``scores`` (measures, n): the leaks of n honest rows, ascending for each measure. ``clean_scores`` (measures, n): the same by
    the measures fitted without kinds; None where no measure was fitted with kinds. ``weights``: one per measure, sum 1. ``g``:
    exponent of the price, 0 to 1. ``unit_seconds``: reference seconds of one unit. ``coordinates``: the one or two measures
    whose p-values are sorted into cells; by default ``default_coordinates``. ``kinds``: of honest rows, of which the first is
    all traffic; by default that alone, with independent coordinates. ``priced_classes``: predicted classes that are priced
    among their own rows. ``strangers``: samples of rows that a thief may send. ``undefended_seconds``, ``gate_seconds``: seconds
    per row that the unit was computed from, 0 if not measured; no price depends on them. ``report``, ``kind_reports``:
    validation on rows held back.

    Raises:
        CalibrationError: a member is out of range or inconsistent with the others.
    """

    model: str
    measures: tuple[str, ...]
    scores: Floats
    weights: tuple[float, ...]
    g: float
    unit_seconds: float
    suspicion: SuspicionTerms = field(default_factory=SuspicionTerms)
    new_account_toll: NewAccountToll = field(default_factory=NewAccountToll)
    coordinates: tuple[str, ...] = ()
    kinds: tuple[FittedKind, ...] = ()
    priced_classes: tuple[PricedClass, ...] = ()
    clean_scores: Floats | None = None
    strangers: tuple[FittedStranger, ...] = ()
    undefended_seconds: float = 0.0
    gate_seconds: float = 0.0
    provenance: CalibrationProvenance = field(default_factory=CalibrationProvenance)
    report: CalibrationReport | None = None
    kind_reports: tuple[KindReport, ...] = ()

    def __post_init__(self) -> None:
        count = len(self.measures)
        require(self.model != "", "'model' must not be empty")
        require(count > 0 and "" not in self.measures, "'measures' must be one or more names")
        require(len(set(self.measures)) == count, "'measures' must not repeat a name")
        _check_scores("scores", self.scores, count)
        in_range = len(self.weights) == count and all(0.0 <= weight <= 1.0 for weight in self.weights)
        normalised = in_range and abs(math.fsum(self.weights) - 1.0) < 1e-9
        require(normalised, "'weights' must be one share per measure, summing to 1")
        require(0.0 < self.g < 1.0, "'g' must lie between 0 and 1")
        require(0.0 < self.unit_seconds <= _MAXIMUM_UNIT_SECONDS, "'unit_seconds' must be above 0, a day at most")
        for name in ("undefended_seconds", "gate_seconds"):
            require(0.0 <= getattr(self, name) <= _MAXIMUM_UNIT_SECONDS, f"'{name}' must lie in 0..a day")
        if self.clean_scores is not None:
            _check_scores("clean_scores", self.clean_scores, count)
            require(self.clean_scores.shape == self.scores.shape, "'clean_scores' must be of as many rows as 'scores'")
        if not self.coordinates:
            object.__setattr__(self, "coordinates", default_coordinates(self.measures, self.weights))
        _check_coordinates(self.coordinates, self.measures)
        cells = self.cells
        if not self.kinds:
            counts = independent_counts(cells, self.honest_rows)
            object.__setattr__(self, "kinds", (FittedKind(ALL_TRAFFIC, "all traffic", counts),))
        _check_kinds(self.kinds, count, cells.count)
        _check_classes(self.priced_classes, count)
        _check_names("strangers", [stranger.name for stranger in self.strangers])
        for stranger in self.strangers:
            _check_counts("strangers", stranger.counts, cells.count)

    @property
    def honest_rows(self) -> int:
        """Number of honest rows, n."""
        return int(self.scores.shape[1])

    @property
    def cells(self) -> Cells:
        """The cells of the p-values of the coordinates."""
        return Cells(len(self.coordinates), self.honest_rows)

    @property
    def identity(self) -> str:
        """SHA-256, hexadecimal, of all that the evidence in the ledger depends on.

        That is model, measures and their scores, cells, kinds, strangers, ``rho`` and ``rho0``. A change of g, weights, unit,
        surcharge or new-account toll keeps the identity, and thus the counts.
        """
        members = {
            "model": self.model,
            "measures": self.measures,
            "coordinates": self.coordinates,
            "edges": self.cells.edges,
            "rho": [self.suspicion.rho, self.suspicion.rho0],
            "kinds": [[kind.name, kind.role, kind.counts.tolist()] for kind in self.kinds],
            "strangers": [[stranger.name, stranger.counts.tolist()] for stranger in self.strangers],
        }
        digest = hashlib.sha256(json.dumps(members, sort_keys=True).encode("ascii"))
        digest.update(np.ascontiguousarray(self.scores, dtype="<f8").tobytes())
        return digest.hexdigest()


def default_coordinates(
    measures: tuple[str, ...], weights: Sequence[float], of_inputs: Collection[str] = ()
) -> tuple[str, ...]:
    """The measures whose p-values are sorted into cells: one of one measure, else two.

    The first by weight of those that read answers and of those that read inputs (``of_inputs``), in that order. If all read
    one of the two: the two heaviest, in the order of ``measures``.
    """
    heaviest = [place for _, place in sorted((-weight, place) for place, weight in enumerate(weights[: len(measures)]))]
    answers, inputs = (
        [place for place in heaviest if (measures[place] in of_inputs) is read] for read in (False, True)
    )
    chosen = [answers[0], inputs[0]] if answers and inputs else sorted(heaviest[:_COORDINATES])
    return tuple(measures[place] for place in chosen)


def independent_counts(cells: Cells, rows: int) -> Integers:
    """The counts (cells,) of ``rows`` rows whose smoothed p-values are uniform and independent, rounded."""
    ends = np.rint(rows * np.cumsum(cells.widths)).astype(np.int64)
    return np.diff(ends, prepend=0)


def _check_scores(name: str, scores: Floats, measures: int) -> None:
    shaped = scores.ndim == 2 and len(scores) == measures and scores.shape[1] > 0
    require(shaped, f"'{name}' must hold one list per measure, of one length above 0")
    finite = bool(np.isfinite(scores).all()) and bool((scores >= 0.0).all())
    require(finite, f"'{name}' must be finite and 0 or more")
    require(bool((np.diff(scores) >= 0.0).all()), f"'{name}' must ascend")


def _check_coordinates(coordinates: tuple[str, ...], measures: tuple[str, ...]) -> None:
    known = set(coordinates) <= set(measures) and len(set(coordinates)) == len(coordinates) <= _COORDINATES
    require(known, f"'coordinates' must be one or {_COORDINATES} of the measures")


def _check_names(member: str, names: list[str]) -> None:
    require("" not in names and len(set(names)) == len(names), f"'{member}' must have names, each once")


def _check_counts(member: str, counts: Integers, cells: int) -> None:
    shaped = counts.shape == (cells,) and counts.dtype == np.int64
    valid = shaped and bool((counts >= 0).all()) and 0 < int(counts.sum()) < 2**53
    require(valid, f"'{member}' must have counts, one for each of {cells} cells, 0 or more and not all 0")


def _check_kinds(kinds: tuple[FittedKind, ...], measures: int, cells: int) -> None:
    roles = [kind.role for kind in kinds]
    first = roles[0] == ALL_TRAFFIC and ALL_TRAFFIC not in roles[1:]
    require(first, f"'kinds' must begin with {ALL_TRAFFIC!r}, and have it once")
    _check_names("kinds", [f"{kind.role} {kind.name}" if kind.name else "" for kind in kinds])
    for kind in kinds:
        _check_counts("kinds", kind.counts, cells)
        if kind.scores is None:
            continue
        _check_scores("kinds.scores", kind.scores, measures)
        require(kind.scores.shape[1] == kind.rows, "'kinds.scores' must be of as many rows as the counts")
        priced = kind.role == CALLER or (kind.role == DECLARED and kind.rows >= KIND_PRICE_ROWS)
        require(priced, f"'kinds.scores' are for callers, and for declared kinds of {KIND_PRICE_ROWS} rows or more")


def _check_classes(priced: tuple[PricedClass, ...], measures: int) -> None:
    classes = [number for each in priced for number in each.classes]
    distinct = len(set(classes)) == len(classes) and all(0 <= number < _MAXIMUM_CLASS for number in classes)
    require(distinct and all(each.classes for each in priced), "'priced_classes' must name classes, each once")
    for each in priced:
        _check_scores("priced_classes.scores", each.scores, measures)
