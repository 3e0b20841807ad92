"""The records of a report: sections with a table and, for some, a chart."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Curve", "Panel", "ReportChart", "Section", "Table"]


@dataclass(frozen=True, slots=True)
class Curve:
    """Points (x, y), ascending in x. ``dashed`` curves are the comparison."""

    label: str
    points: tuple[tuple[float, float], ...]
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """One plot of a chart."""

    title: str
    curves: tuple[Curve, ...]


@dataclass(frozen=True, slots=True)
class ReportChart:
    """Panels side by side. Curves with the same label have the same colour in all panels."""

    name: str
    x: str
    y: str
    panels: tuple[Panel, ...]
    x_log: bool = False
    y_log: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells under headings; the first ``words`` columns are text, the others numbers."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: int = 1


@dataclass(frozen=True, slots=True)
class Section:
    """A title, an explanation, a table, and optionally a chart of the same numbers."""

    title: str
    text: str
    table: Table
    chart: ReportChart | None = None
