"""What a conformal tariff is made from: data, which ``fit`` makes and ``calibration_file`` stores."""

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
    from modeltoll.records import Account, Caller, Floats

__all__ = ["MAXIMUM_NEW_ACCOUNT_UNITS", "NEW_ACCOUNT_QUERIES", "Calibration", "NewAccountToll", "Provenance"]

NEW_ACCOUNT_QUERIES = (
    200.0  # over ten rows: whoever asks no more from an account pays 20 times the undefended time for each
)
_MAXIMUM_UNIT_SECONDS = 86_400.0
MAXIMUM_NEW_ACCOUNT_UNITS = 1e6


@dataclass(frozen=True, slots=True)
class NewAccountToll:
    """What a new caller pays beside his rows, in units, in equal shares with each of his first ``rows`` rows.

    ``anonymous_units`` where only a network prefix is known of the caller, ``keyed_units`` where he has a key.

    Raises:
        CalibrationError: a term is out of range.
    """

    anonymous_units: float = NEW_ACCOUNT_QUERIES
    keyed_units: float = 0.0
    rows: int = 10

    def __post_init__(self) -> None:
        for name in ("anonymous_units", "keyed_units"):
            sound = 0.0 <= getattr(self, name) <= MAXIMUM_NEW_ACCOUNT_UNITS
            require(sound, f"'entry.{name}' must lie in 0..{MAXIMUM_NEW_ACCOUNT_UNITS:,.0f} units")
        require(1 <= self.rows <= 1_000_000, "'entry.rows' must lie in 1..1000000")

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
class Provenance:
    """Where a calibration comes from: the honest rows, the command, the date (ISO 8601) and the machine."""

    source: str = ""
    command: str = ""
    created: str = ""
    machine: str = ""


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
    new_account_toll: NewAccountToll = field(default_factory=NewAccountToll)
    undefended_seconds: float = 0.0
    gate_seconds: float = 0.0
    provenance: Provenance = field(default_factory=Provenance)
    report: CalibrationReport | None = None

    def __post_init__(self) -> None:
        count = len(self.measures)
        require(self.model != "", "'model' must not be empty")
        require(count > 0 and "" not in self.measures, "'measures' must be one or more names")
        require(len(set(self.measures)) == count, "'measures' must not repeat a name")
        fits = self.scores.ndim == 2 and len(self.scores) == count and self.scores.shape[1] > 0
        require(fits, "'scores' must hold one list per measure, of one length above 0")
        finite = bool(np.isfinite(self.scores).all()) and bool((self.scores >= 0.0).all())
        require(finite, "'scores' must be finite and 0 or more")
        require(bool((np.diff(self.scores) >= 0.0).all()), "'scores' must ascend")
        shares = len(self.weights) == count and all(0.0 <= weight <= 1.0 for weight in self.weights)
        summed = shares and abs(math.fsum(self.weights) - 1.0) < 1e-9
        require(summed, "'weights' must be one share per measure, summing to 1")
        require(0.0 < self.g < 1.0, "'g' must lie between 0 and 1")
        require(0.0 < self.unit_seconds <= _MAXIMUM_UNIT_SECONDS, "'unit_seconds' must be above 0, a day at most")
        for name in ("undefended_seconds", "gate_seconds"):
            require(0.0 <= getattr(self, name) <= _MAXIMUM_UNIT_SECONDS, f"'{name}' must lie in 0..a day")

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
