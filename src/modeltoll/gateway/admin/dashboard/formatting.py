"""Formats numbers and times for people."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modeltoll.gateway.admin.dashboard.charts import Kind

__all__ = ["abbreviated", "clock", "count", "decimal", "grouped_count", "moment", "percent", "seconds", "value"]

_STEPS = ((1e-3, 1e6, "µs"), (1.0, 1e3, "ms"), (120.0, 1.0, "s"), (7200.0, 1 / 60, "min"), (172_800.0, 1 / 3600, "h"))
_DAYS = 1 / 86_400
NONE = "-"


def decimal(number: float | None, digits: int = 3) -> str:
    """A number with ``digits`` significant digits; with an exponent only if it is very small or large."""
    if number is None or not math.isfinite(number):
        return NONE
    if number == 0 or 1e-4 <= abs(number) < 10 ** (digits + 3):
        places = max(0, digits - 1 - math.floor(math.log10(abs(number)))) if number else 0
        return f"{number:,.{places}f}"
    return f"{number:.{digits - 1}e}"


def seconds(number: float | None) -> str:
    """A time span in seconds, with a unit from microseconds to days."""
    if number is None or not math.isfinite(number):
        return NONE
    if number == 0:
        return "0 s"
    for below, factor, unit in _STEPS:
        if number < below:
            return f"{decimal(number * factor)} {unit}"
    return f"{decimal(number * _DAYS)} days"


def count(number: float | None) -> str:
    """A whole number with thousands separators."""
    return NONE if number is None else f"{number:,.0f}"


def percent(share: float | None) -> str:
    """A share of 0..1 in percent."""
    return NONE if share is None else f"{abbreviated(100 * share)}%"


def abbreviated(number: float | None) -> str:
    """A number with at most three significant digits, without trailing zeros."""
    return NONE if number is None else f"{number:.3g}"


def grouped_count(number: int, thing: str) -> str:
    """A count with a noun, whose plural gets an s."""
    return f"{count(number)} {thing}{'s' * (number != 1)}"


def moment(at: float) -> str:
    """Date and time, UTC, of seconds since the epoch."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S}"


def clock(at: float) -> str:
    """Time of day, UTC, of seconds since the epoch."""
    return f"{datetime.fromtimestamp(at, UTC):%H:%M}"


def value(number: float | None, kind: Kind) -> str:
    """A number of a chart in the format of its kind."""
    kinds = {"time": clock, "count": count, "seconds": seconds, "units": decimal, "share": percent, "number": decimal}
    return NONE if number is None else kinds[kind](number)
