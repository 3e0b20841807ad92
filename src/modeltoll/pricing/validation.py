"""Validate honest rows before a fit, and the fitted tariff on rows held back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.errors import CalibrationError

if TYPE_CHECKING:
    from modeltoll.records import Floats, Leaks

__all__ = [
    "MINIMUM_KIND_ROWS",
    "MINIMUM_ROWS",
    "CalibrationReport",
    "bootstrap_interval",
    "check_honest",
    "check_kind",
    "check_shape",
    "require",
    "side_of_one",
    "validate",
]

MINIMUM_ROWS = 200
MINIMUM_KIND_ROWS = 50
_RESAMPLES = 1000
_KEPT_FACTORS = 512


@dataclass(frozen=True, slots=True)
class CalibrationReport:
    """The tariff's prices of ``held_back`` honest rows that it was not calibrated on.

    ``mean``: their mean factor in units, at most 1 in expectation; ``low``, ``high``: its 95 % interval (percentile
    bootstrap). ``waits``: pairs (share, seconds); that share of rows waits no longer, without surcharges. ``factors``:
    their factors, ascending, or 512 evenly spaced ones of them.
    """

    held_back: int
    mean: float
    low: float
    high: float
    waits: tuple[tuple[float, float], ...]
    factors: tuple[float, ...] = ()
    warnings: tuple[str, ...] = ()


def require(holds: bool, fault: str) -> None:
    """Check a condition of a calibration.

    Raises:
        CalibrationError: ``holds`` is False; the message is ``fault``.
    """
    if not holds:
        raise CalibrationError(fault)


def check_shape(leaks: Leaks) -> None:
    """Check that there is one column per measure, and one class per row where there are classes.

    Raises:
        CalibrationError: there is not.
    """
    rows = len(leaks.values)
    require(leaks.values.shape == (rows, len(leaks.measures)), "leaks must be of shape (rows, measures)")
    require(leaks.classes is None or leaks.classes.shape == (rows,), "there must be one predicted class per row")


def check_honest(leaks: Leaks) -> tuple[str, ...]:
    """Check the leaks of honest rows before a fit; returns warnings.

    Raises:
        CalibrationError: too few rows, leaks that are not finite and >= 0, or a measure that is constant over the rows.
    """
    check_shape(leaks)
    values = leaks.values
    rows = len(values)
    require(rows >= MINIMUM_ROWS, f"{rows} honest rows are too few; give {MINIMUM_ROWS} or more")
    for name, column in zip(leaks.measures, values.T, strict=True):
        bad = int((~np.isfinite(column) | (column < 0.0)).sum())
        require(bad == 0, f"{bad} honest rows have a {name} leak that is negative or not finite")
        require(float(np.ptp(column)) > 0.0, f"all honest rows have one {name} leak; use another measure or other rows")
    distinct = len(np.unique(values, axis=0))
    if 2 * distinct >= rows:
        return ()
    warning = (
        f"only {distinct} of {rows} honest rows have leaks of their own; where inputs are repeated, remove the copies, "
        "otherwise add a finer measure"
    )
    return (warning,)


def check_kind(name: str, leaks: Leaks) -> None:
    """Check the leaks of a kind or a stranger before a fit.

    Raises:
        CalibrationError: fewer than ``MINIMUM_KIND_ROWS`` rows, or leaks that are not finite and >= 0.
    """
    rows = len(leaks.values)
    check_shape(leaks)
    require(rows >= MINIMUM_KIND_ROWS, f"{rows} rows of {name!r} are too few; give {MINIMUM_KIND_ROWS} or more")
    valid = bool(np.isfinite(leaks.values).all()) and bool((leaks.values >= 0.0).all())
    require(valid, f"some rows of {name!r} have a leak that is negative or not finite")


def bootstrap_interval(factors: Floats, rng: np.random.Generator) -> tuple[float, float]:
    """The 95 % interval of the mean of ``factors`` (rows,), by a percentile bootstrap."""
    rows = len(factors)
    means = [factors[rng.integers(rows, size=rows)].mean() for _ in range(_RESAMPLES)]
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def side_of_one(low: float, high: float) -> str:
    """Whether a mean price is at most 1 unit, in words, by the interval in which it lies."""
    if high <= 1.0:
        return "yes, below 1"
    if low > 1.0:
        return "no, above 1"
    return "open, 1 lies inside"


def validate(factors: Floats, unit_seconds: float, rng: np.random.Generator) -> CalibrationReport:
    """Report on rows held back, from their ``factors`` (rows,) under the final tariff; ``rng`` is for the bootstrap."""
    rows = len(factors)
    low, high = bootstrap_interval(factors, rng)
    shares = (0.5, 0.95, 0.99, 0.999)
    waits = unit_seconds * np.quantile(factors, shares, method="higher")
    warning = (
        f"honest rows that were held back pay {low:.2f} to {high:.2f} units on average, not at most 1: they are not "
        "like the rows that the tariff was calibrated on; use more rows, of one time and source"
    )
    warnings = (warning,) if low > 1.0 else ()
    paired = tuple((share, float(wait)) for share, wait in zip(shares, waits, strict=True))
    kept = np.sort(factors)[np.linspace(0, rows - 1, min(rows, _KEPT_FACTORS)).round().astype(np.int64)]
    return CalibrationReport(rows, float(factors.mean()), low, high, paired, tuple(kept.tolist()), warnings)
