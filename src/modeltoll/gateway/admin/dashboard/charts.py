"""Charts: the data that the page's script draws, and the same data as a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import msgspec

from modeltoll.formatting import MISSING, clock, count, decimal, seconds, short_percent

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["DashboardChart", "Kind", "Series", "finite_values", "log_axis", "value"]

Kind = Literal["time", "count", "seconds", "units", "share", "number"]


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a chart, None where it has a gap. ``tone`` selects a colour by meaning."""

    label: str
    values: tuple[float | None, ...]
    tone: Literal["honest", "thief", "soft", "ink"] = "honest"
    style: Literal["line", "steps", "dashes", "bars", "edge"] = "line"


@dataclass(frozen=True, slots=True)
class DashboardChart:
    """Series over one x. ``x_kind`` and ``y_kind`` select number formats; ``x_log`` and ``y_log`` logarithmic axes.

    ``band`` are the indices of two series; the space between them is filled.
    """

    title: str
    x_label: str
    y_label: str
    x: tuple[float, ...]
    series: tuple[Series, ...]
    x_kind: Kind = "time"
    y_kind: Kind = "count"
    x_log: bool = False
    y_log: bool = False
    band: tuple[int, int] | None = None

    @property
    def json(self) -> str:
        """The chart as JSON for the page's script."""
        return msgspec.json.encode(self).decode()

    @property
    def table(self) -> list[tuple[float, tuple[float | None, ...]]]:
        """Rows of (x, value of each series)."""
        columns = zip(*(series.values for series in self.series), strict=True)
        return list(zip(self.x, columns, strict=True))


def finite_values(values: Iterable[float], *, above: float | None = None) -> tuple[float | None, ...]:
    """Values for a series; those that are not finite, or not above ``above``, become gaps."""
    low = float("-inf") if above is None else above
    return tuple([value if low < value < float("inf") else None for value in map(float, values)])


def log_axis(edges: Sequence[float]) -> tuple[float, ...]:
    """Edges of bins from 0 to 1 for a logarithmic axis: the edge 0 is replaced by half of the next edge."""
    return (edges[1] / 2.0, *edges[1:])


def value(number: float | None, kind: Kind) -> str:
    """A number of a chart in the format of its kind, for the chart's table."""
    formats = {
        "time": clock,
        "count": count,
        "seconds": seconds,
        "units": decimal,
        "share": short_percent,
        "number": decimal,
    }
    return MISSING if number is None else formats[kind](number)
