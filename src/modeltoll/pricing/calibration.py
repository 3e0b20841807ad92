"""The data of a conformal tariff, as ``fit`` makes it and ``calibration_file`` stores it."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.pricing.suspicion import SuspicionTerms, bin_edges
from modeltoll.pricing.validation import CalibrationReport, require

if TYPE_CHECKING:
    from modeltoll.records import Caller, Floats

__all__ = ["MAXIMUM_NEW_ACCOUNT_UNITS", "NEW_ACCOUNT_QUERIES", "Calibration", "CalibrationProvenance", "NewAccountToll"]

# Over ``NEW_ACCOUNT_ROWS`` rows, so that accounts of no more rows pay 20 times the undefended time for each row.
NEW_ACCOUNT_QUERIES = 200.0
_MAXIMUM_UNIT_SECONDS = 86_400.0
MAXIMUM_NEW_ACCOUNT_UNITS = 1e6


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
class Calibration:
    """The data of a conformal tariff.

    ``scores`` (measures, n): the leaks of n honest rows, ascending for each measure. ``weights``: one per measure, sum
    1. ``g``: exponent of the price, 0 to 1. ``unit_seconds``: reference seconds of one unit. ``undefended_seconds``,
    ``gate_seconds``: seconds per row that the unit was computed from, 0 if not measured; no price depends on them.
    ``report``: validation on rows held back.

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
    undefended_seconds: float = 0.0
    gate_seconds: float = 0.0
    provenance: CalibrationProvenance = field(default_factory=CalibrationProvenance)
    report: CalibrationReport | None = None

    def __post_init__(self) -> None:
        count = len(self.measures)
        require(self.model != "", "'model' must not be empty")
        require(count > 0 and "" not in self.measures, "'measures' must be one or more names")
        require(len(set(self.measures)) == count, "'measures' must not repeat a name")
        shaped = self.scores.ndim == 2 and len(self.scores) == count and self.scores.shape[1] > 0
        require(shaped, "'scores' must hold one list per measure, of one length above 0")
        finite = bool(np.isfinite(self.scores).all()) and bool((self.scores >= 0.0).all())
        require(finite, "'scores' must be finite and 0 or more")
        require(bool((np.diff(self.scores) >= 0.0).all()), "'scores' must ascend")
        in_range = len(self.weights) == count and all(0.0 <= weight <= 1.0 for weight in self.weights)
        normalised = in_range and abs(math.fsum(self.weights) - 1.0) < 1e-9
        require(normalised, "'weights' must be one share per measure, summing to 1")
        require(0.0 < self.g < 1.0, "'g' must lie between 0 and 1")
        require(0.0 < self.unit_seconds <= _MAXIMUM_UNIT_SECONDS, "'unit_seconds' must be above 0, a day at most")
        for name in ("undefended_seconds", "gate_seconds"):
            require(0.0 <= getattr(self, name) <= _MAXIMUM_UNIT_SECONDS, f"'{name}' must lie in 0..a day")

    @property
    def honest_rows(self) -> int:
        """Number of honest rows, n."""
        return int(self.scores.shape[1])

    @property
    def identity(self) -> str:
        """SHA-256, hexadecimal, of all that the ledger's counts depend on: model, measures, scores, edges of the bins.

        A change of g, unit or new-account toll keeps the identity, and thus the counts.
        """
        members = {"model": self.model, "measures": self.measures, "edges": bin_edges(self.honest_rows)}
        digest = hashlib.sha256(json.dumps(members, sort_keys=True).encode("ascii"))
        digest.update(np.ascontiguousarray(self.scores, dtype="<f8").tobytes())
        return digest.hexdigest()
