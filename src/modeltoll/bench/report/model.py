"""What a report is made of: sections with a table, and with a chart where a picture says more."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Chart", "Curve", "Panel", "Section", "Table"]


@dataclass(frozen=True, slots=True)
class Curve:
    """Points, by x. ``dashed`` ones are the comparison."""

    label: str
    points: tuple[tuple[float, float], ...]
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture of a chart."""

    title: str
    curves: tuple[Curve, ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """Panels side by side. A curve of the same label has the same colour in all of them."""

    name: str
    x: str
    y: str
    panels: tuple[Panel, ...]
    x_log: bool = False
    y_log: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Cells under headings; the first ``words`` columns are text, the others numbers."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: int = 1


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, what there is to say, a table, and perhaps a chart of the same numbers."""

    title: str
    text: str
    table: Table
    chart: Chart | None = None
