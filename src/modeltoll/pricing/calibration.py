"""Fit a tariff to honest traces and targets. The result is data; ``calibration_file`` keeps it."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.errors import CalibrationError
from modeltoll.pricing.conformal import ConformalTariff
from modeltoll.pricing.suspicion import SuspicionTerms
from modeltoll.records import Leaks

if TYPE_CHECKING:
    from modeltoll.records import Account, Floats

__all__ = [
    "MINIMUM_ROWS",
    "MINIMUM_UNIT_SECONDS",
    "Calibration",
    "CalibrationReport",
    "Costs",
    "EntryTerms",
    "Provenance",
    "Split",
    "Terms",
    "calibrate",
]

MINIMUM_ROWS = 200
MINIMUM_UNIT_SECONDS = 0.0005
_MAXIMUM_UNIT_SECONDS = 86_400.0
_RESAMPLES = 1000


def _require(holds: bool, fault: str) -> None:
    if not holds:
        raise CalibrationError(fault)


@dataclass(frozen=True, slots=True)
class EntryTerms:
    """What a new caller pays beside his rows, in units, in equal shares with each of his first ``rows`` rows.

    ``anonymous_units`` where only a network prefix is known of the caller, ``keyed_units`` where he has a key.

    Raises:
        CalibrationError: a term is out of range.
    """

    anonymous_units: float = 200.0
    keyed_units: float = 0.0
    rows: int = 10

    def __post_init__(self) -> None:
        for name in ("anonymous_units", "keyed_units"):
            _require(0.0 <= getattr(self, name) <= 1e6, f"'entry.{name}' must lie in 0..1e6 units")
        _require(1 <= self.rows <= 1_000_000, "'entry.rows' must lie in 1..1000000")

    def units(self, account: Account, rows: int) -> float:
        """The share that falls on a request of ``rows`` rows, which the account already holds.

        However the caller splits his rows into requests, the shares sum to the whole, once.
        """
        whole = self.anonymous_units if account.caller.anonymous else self.keyed_units
        shares = min(account.rows, self.rows) - min(account.rows - rows, self.rows)
        return whole * shares / self.rows


@dataclass(frozen=True, slots=True)
class Terms:
    """What the operator decides. ``weights`` sum to 1, one per measure; None shares equally. 0 < ``g`` < 1 bends the
    price: the larger, the cheaper the ordinary row and the dearer the rare one."""

    g: float = 0.8
    weights: tuple[float, ...] | None = None
    suspicion: SuspicionTerms = field(default_factory=SuspicionTerms)
    entry: EntryTerms = field(default_factory=EntryTerms)


@dataclass(frozen=True, slots=True)
class Costs:
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


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a calibration comes from: the honest rows, the command, the date (ISO 8601) and the machine."""

    source: str = ""
    command: str = ""
    created: str = ""
    machine: str = ""


@dataclass(frozen=True, slots=True)
class Split:
    """Which share of the honest rows is kept back, and the seed of everything that chance decides."""

    holdback: float = 0.2
    seed: int = 0


@dataclass(frozen=True, slots=True)
class CalibrationReport:
    """What the tariff does to the ``held_back`` honest rows that it was not calibrated on.

    ``mean`` is their mean price factor in units, ``low`` to ``high`` its 95 % interval (percentile bootstrap); the
    promise is at most 1. ``waits`` are (share of rows, seconds): that share waits no longer, without surcharge.
    """

    held_back: int
    mean: float
    low: float
    high: float
    waits: tuple[tuple[float, float], ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """Everything that a conformal tariff is made from.

    ``scores`` (measures, n): the leaks of n honest rows, ascending in each row of the array. ``weights`` sum to 1.

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
    entry: EntryTerms = field(default_factory=EntryTerms)
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

    @property
    def honest(self) -> int:
        """How many honest rows it holds: n."""
        return int(self.scores.shape[1])

    @property
    def identity(self) -> str:
        """SHA-256, in hexadecimal, of everything that the price depends on."""
        members = {
            "model": self.model,
            "measures": self.measures,
            "weights": self.weights,
            "g": self.g,
            "unit_seconds": self.unit_seconds,
            "suspicion": asdict(self.suspicion),
            "entry": asdict(self.entry),
            "honest": self.honest,
        }
        digest = hashlib.sha256(json.dumps(members, sort_keys=True).encode("ascii"))
        digest.update(np.ascontiguousarray(self.scores, dtype="<f8").tobytes())
        return digest.hexdigest()


def _check_honest(leaks: Leaks) -> tuple[str, ...]:
    """Refuse honest rows that cannot carry a tariff, and warn of those that hardly can."""
    values = leaks.values
    rows = len(values)
    _require(values.shape == (rows, len(leaks.measures)), "honest leaks must be of shape (rows, measures)")
    _require(rows >= MINIMUM_ROWS, f"{rows} honest rows are too few; give {MINIMUM_ROWS} or more")
    for name, column in zip(leaks.measures, values.T, strict=True):
        bad = int((~np.isfinite(column) | (column < 0.0)).sum())
        _require(bad == 0, f"{bad} honest rows have a {name} leak that is negative or not finite")
        _require(
            float(np.ptp(column)) > 0.0, f"all honest rows have one {name} leak; use another measure or other rows"
        )
    distinct = len(np.unique(values, axis=0))
    if 2 * distinct >= rows:
        return ()
    warning = (
        f"only {distinct} of {rows} honest rows have leaks of their own; where inputs are repeated, remove the copies, "
        "otherwise add a finer measure"
    )
    return (warning,)


def _assay(calibration: Calibration, held_back: Leaks, rng: np.random.Generator) -> CalibrationReport:
    """Price the rows kept back with the tariff as it will be served."""
    factors = ConformalTariff(calibration).assess(held_back, rng).factors
    rows = len(factors)
    means = [factors[rng.integers(rows, size=rows)].mean() for _ in range(_RESAMPLES)]
    low, high = (float(bound) for bound in np.quantile(means, (0.025, 0.975)))
    shares = (0.5, 0.95, 0.99, 0.999)
    waits = calibration.unit_seconds * np.quantile(factors, shares, method="higher")
    warning = (
        f"honest rows that were kept back pay {low:.2f} to {high:.2f} units on average, not at most 1: they are not "
        "like the rows that the tariff was calibrated on; use more rows, of one time and source"
    )
    warnings = (warning,) if low > 1.0 else ()
    paired = tuple((share, float(wait)) for share, wait in zip(shares, waits, strict=True))
    return CalibrationReport(rows, float(factors.mean()), low, high, paired, warnings)


def calibrate(
    model: str,
    leaks: Leaks,
    costs: Costs,
    terms: Terms | None = None,
    provenance: Provenance | None = None,
    split: Split | None = None,
) -> Calibration:
    """A calibration from the leaks of honest rows that the victim was not trained on, with a report on rows kept back.

    The promise holds for callers whose rows are exchangeable with these, on average over calibration sets.

    Raises:
        CalibrationError: too few rows, a measure that tells no two rows apart, or terms out of range.
    """
    terms, split = terms or Terms(), split or Split()
    warnings = _check_honest(leaks)
    _require(0.05 <= split.holdback <= 0.5, "'holdback' must lie in 0.05..0.5")
    unit_seconds, unit_warnings = costs.unit()
    rng = np.random.default_rng(split.seed)
    rows, count = leaks.values.shape
    order = rng.permutation(rows)
    kept, held_back = np.split(order, [rows - round(split.holdback * rows)])
    scores = np.sort(leaks.values[kept].T.astype(np.float64), axis=1)
    scores.setflags(write=False)
    calibration = Calibration(
        model=model,
        measures=leaks.measures,
        scores=scores,
        weights=(1.0 / count,) * count if terms.weights is None else terms.weights,
        g=terms.g,
        unit_seconds=unit_seconds,
        suspicion=terms.suspicion,
        entry=terms.entry,
        provenance=provenance or Provenance(),
    )
    report = _assay(calibration, Leaks(leaks.measures, leaks.values[held_back]), rng)
    return replace(calibration, report=replace(report, warnings=warnings + unit_warnings + report.warnings))
