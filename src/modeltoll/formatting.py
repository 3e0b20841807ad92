"""Numbers, shares and times as people read them, on terminals, pages and in documents. Pure functions."""

from __future__ import annotations

import math
from datetime import UTC, datetime

__all__ = [
    "MISSING",
    "abbreviated",
    "clock",
    "count",
    "decimal",
    "grouped_count",
    "moment",
    "number",
    "percent",
    "seconds",
    "short_percent",
    "times",
]

MISSING = "\N{EN DASH}"  # what stands where there is no number
_STEPS = ((1e-3, 1e6, "µs"), (1.0, 1e3, "ms"), (120.0, 1.0, "s"), (7200.0, 1 / 60, "min"), (172_800.0, 1 / 3600, "h"))
_DAYS = 1 / 86_400


def times(ratio: float | None, *, decimals: int = 2, whole_from: float = 100.0, missing: str = MISSING) -> str:
    """A ratio: ``1.83x``, ``57.3x``, ``1,024x``.

    Below 10 it has ``decimals`` places, below ``whole_from`` one, and none from there on.
    """
    if ratio is None:
        return missing
    places = decimals if ratio < 10.0 else 1 if ratio < whole_from else 0
    return f"{ratio:,.{places}f}x"


def percent(share: float | None) -> str:
    """A share of 0 to 1 with one place: ``98.8 %``."""
    return MISSING if share is None else f"{100.0 * share:.1f} %"


def short_percent(share: float | None) -> str:
    """A share of 0 to 1 with three significant digits at most: ``50%``, ``0.0625%``."""
    return MISSING if share is None else f"{abbreviated(100.0 * share)}%"


def number(value: float | None) -> str:
    """Three significant digits, whole from 100 on, thousands apart: ``0.0123``, ``12,346``."""
    if value is None:
        return MISSING
    return f"{value:,.0f}" if abs(value) >= 100.0 else f"{value:.3g}"


def abbreviated(value: float | None) -> str:
    """Three significant digits at most, and no zeros at the end."""
    return MISSING if value is None else f"{value:.3g}"


def decimal(value: float | None, digits: int = 3) -> str:
    """So many significant digits, zeros at the end included, without an exponent as long as that is readable."""
    if value is None or not math.isfinite(value):
        return MISSING
    if value == 0 or 1e-4 <= abs(value) < 10 ** (digits + 3):
        places = max(0, digits - 1 - math.floor(math.log10(abs(value)))) if value else 0
        return f"{value:,.{places}f}"
    return f"{value:.{digits - 1}e}"


def count(value: float | None) -> str:
    """A whole number, in groups of three."""
    return MISSING if value is None else f"{value:,.0f}"


def grouped_count(value: int, thing: str) -> str:
    """So many things: ``1 row``, ``2,000 rows``. The plural has an s."""
    return f"{count(value)} {thing}{'s' * (value != 1)}"


def seconds(span: float | None) -> str:
    """A span of time in seconds, in a unit from microseconds to days: ``4.22 ms``."""
    if span is None or not math.isfinite(span):
        return MISSING
    if span == 0:
        return "0 s"
    for below, factor, unit in _STEPS:
        if span < below:
            return f"{decimal(span * factor)} {unit}"
    return f"{decimal(span * _DAYS)} days"


def moment(at: float) -> str:
    """Date and time of day, UTC, of seconds since 1970."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S}"


def clock(at: float) -> str:
    """Time of day, UTC, of seconds since 1970."""
    return f"{datetime.fromtimestamp(at, UTC):%H:%M}"
