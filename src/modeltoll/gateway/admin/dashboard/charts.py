"""Charts as the page's script draws them, and as its tables say them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import msgspec

from modeltoll.formatting import MISSING, clock, count, decimal, seconds, short_percent

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Chart", "Kind", "Series", "logarithmic", "points", "value"]

Kind = Literal["time", "count", "seconds", "units", "share", "number"]


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a chart; None where there is no value. ``tone`` is a colour by what it stands for."""

    label: str
    values: tuple[float | None, ...]
    tone: Literal["honest", "thief", "soft", "ink"] = "honest"
    style: Literal["line", "steps", "dashes", "bars", "edge"] = "line"


@dataclass(frozen=True, slots=True)
class Chart:
    """Series over one x. ``x_kind`` and ``y_kind`` say what the numbers are; ``x_log`` and ``y_log`` how they are laid out.

    ``band`` is the space between two of the series, by their places, that is filled.
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
        """What the page's script reads."""
        return msgspec.json.encode(self).decode()

    @property
    def table(self) -> list[tuple[float, tuple[float | None, ...]]]:
        """x, and the value of each series there."""
        columns = zip(*(series.values for series in self.series), strict=True)
        return list(zip(self.x, columns, strict=True))


def points(values: Iterable[float], *, above: float | None = None) -> tuple[float | None, ...]:
    """Values as a series has them; those that are not finite, or not ``above``, are gaps."""
    low = float("-inf") if above is None else above
    return tuple([value if low < value < float("inf") else None for value in map(float, values)])


def logarithmic(edges: Sequence[float]) -> tuple[float, ...]:
    """The edges of bins from 0 to 1, as an x that a logarithm can be taken of: the 0 becomes a half of the next edge."""
    return (edges[1] / 2.0, *edges[1:])


def value(number: float | None, kind: Kind) -> str:
    """A number of a chart, by its kind, as the page's tables show it."""
    kinds = {
        "time": clock,
        "count": count,
        "seconds": seconds,
        "units": decimal,
        "share": short_percent,
        "number": decimal,
    }
    return MISSING if number is None else kinds[kind](number)
