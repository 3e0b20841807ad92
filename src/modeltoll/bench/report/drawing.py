"""Charts as SVG files for light and dark pages. The only module of the report that needs matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, StrMethodFormatter

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from modeltoll.bench.report.model import Panel, ReportChart

__all__ = ["THEMES", "draw_chart"]

THEMES = {"light": "#222222", "dark": "#dddddd"}  # the colour of text and axes; the background is transparent
_COLOURS = {
    "light": ("#c1440e", "#1f5fa8", "#0b6e4f", "#7a3b9b", "#9a6a00", "#5a5a5a", "#b0306a", "#00798c"),
    "dark": ("#ff8a5c", "#7db7ff", "#5fd3a8", "#d0a2ee", "#f2c14e", "#b8b8b8", "#ff8fbf", "#63d2e6"),
}
_MARKERS = "osD^vPX*"
_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "modeltoll",
}
_TICKS = 8  # up to this number of levels each one has a tick
_PANEL_INCHES = 4.2


def _labels(chart: ReportChart) -> list[str]:
    return list(dict.fromkeys(curve.label for panel in chart.panels for curve in panel.curves))


def _fill(axes: Axes, panel: Panel, chart: ReportChart, looks: dict[str, tuple[str, str]]) -> None:
    for curve in panel.curves:
        colour, marker = looks[curve.label]
        xs, ys = zip(*curve.points, strict=True)
        axes.plot(
            xs, ys, "--" if curve.dashed else "-", color=colour, marker=marker, markersize=4, linewidth=1.2,
            markerfacecolor="none" if curve.dashed else colour,
        )  # fmt: skip
    axes.set_title(panel.title, fontsize=9)
    axes.set_xlabel(chart.x)
    if chart.x_log:
        axes.set_xscale("log")
    if chart.y_log:
        axes.set_yscale("log")
    for axis, logarithmic in ((axes.xaxis, chart.x_log), (axes.yaxis, chart.y_log)):
        if logarithmic:
            axis.set_minor_formatter(NullFormatter())
        axis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    levels = sorted({x for curve in panel.curves for x, _ in curve.points})
    if len(levels) <= _TICKS:
        axes.set_xticks(levels)
    axes.grid(alpha=0.25)


def draw_chart(chart: ReportChart, folder: Path) -> dict[str, str]:
    """Write the chart once per theme into a folder; the files' names by theme."""
    names = {}
    labels = _labels(chart)
    for theme, ink in THEMES.items():
        colours = _COLOURS[theme]
        looks = {
            label: (colours[place % len(colours)], _MARKERS[(place // len(colours) + place) % len(_MARKERS)])
            for place, label in enumerate(labels)
        }
        inks = dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), ink)
        with mpl.rc_context(_STYLE | inks):
            figure = Figure(figsize=(max(7.0, _PANEL_INCHES * len(chart.panels)), 4.4), layout="constrained")
            panels = figure.subplots(1, len(chart.panels), squeeze=False)[0]
            for axes, panel in zip(panels, chart.panels, strict=True):
                _fill(axes, panel, chart, looks)
            panels[0].set_ylabel(chart.y)
            for label, (colour, marker) in looks.items():
                panels[0].plot([], [], color=colour, marker=marker, markersize=4, label=label)
            figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=7)
            names[theme] = f"{chart.name}-{theme}.svg"
            figure.savefig(folder / names[theme], transparent=True, metadata={"Date": None})
    return names
