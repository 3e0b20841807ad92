"""Figures of simulations and calibrations. The only module of this package that needs matplotlib."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from modeltoll.simulation.scenarios import ABANDON, ACCOUNTS, CHEAPEST, FILLERS, HONEST

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from modeltoll.records import Floats
    from modeltoll.simulation.replay import ReplayLine

__all__ = ["draw_factors", "draw_lines"]

_COLOURS = ("#c1440e", "#1f5fa8", "#7a3b9b", "#9a6a00", "#0b6e4f", "#5a5a5a")
_LINE_STYLES = ("-", "--", ":", "-.")  # one per tariff
_MARKS = "osD^vPX*"  # one per kind of filler
_STYLE: dict[Any, Any] = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False}


class _PlotStyle:
    """A colour for each thief, and a line style for each tariff."""

    def __init__(self, lines: Sequence[ReplayLine]) -> None:
        thieves = dict.fromkeys(line.sample for line in lines if line.family != HONEST)
        self.colours = {name: _COLOURS[place % len(_COLOURS)] for place, name in enumerate(thieves)}
        self.line_styles = {
            name: _LINE_STYLES[place % len(_LINE_STYLES)]
            for place, name in enumerate(dict.fromkeys(li.tariff for li in lines))
        }


def _draw_curves(axes: Axes, lines: Sequence[ReplayLine], style: _PlotStyle, *, marked: bool) -> None:
    """One curve per thief, kind and tariff."""
    curves: dict[tuple[str, str, str], list[ReplayLine]] = {}
    for line in lines:
        curves.setdefault((line.sample, line.kind, line.tariff), []).append(line)
    kinds = list(dict.fromkeys(kind for _, kind, _ in curves))
    for (sample, kind, tariff), points in curves.items():
        axes.plot(
            [point.level for point in points],
            [point.ratio or np.nan for point in points],
            color=style.colours[sample],
            linestyle=style.line_styles[tariff],
            marker=_MARKS[kinds.index(kind) % len(_MARKS)] if marked else "o",
            markersize=4,
            linewidth=1.2,
        )
    if marked and kinds:
        for place, kind in enumerate(kinds):
            axes.plot(
                [], [], color="#333333", marker=_MARKS[place % len(_MARKS)], linestyle="", markersize=4, label=kind
            )
        axes.legend(
            fontsize=7,
            title="fillers",
            title_fontsize=7,
            loc="lower left",
            frameon=True,
            framealpha=0.9,
            edgecolor="none",
        )


def _draw_selective(axes: Axes, lines: Sequence[ReplayLine], style: _PlotStyle) -> None:
    """Bars: the cost for thieves who abandon expensive rows."""
    choices = list(dict.fromkeys((line.family, line.level) for line in lines))
    groups = list(dict.fromkeys((line.sample, line.tariff) for line in lines))
    width = 0.8 / max(1, len(groups))
    for line in lines:
        group = groups.index((line.sample, line.tariff))
        place = choices.index((line.family, line.level)) + (group - (len(groups) - 1) / 2) * width
        solid = style.line_styles[line.tariff] == _LINE_STYLES[0]
        colour = style.colours[line.sample]
        if line.ratio is None:
            axes.plot(place, 1.0, color=colour, marker="x", markersize=4, linestyle="")
        else:
            axes.bar(
                place, line.ratio, width * 0.92, color=colour if solid else "none", edgecolor=colour, linewidth=0.8
            )
    if any(line.ratio is None for line in lines):
        axes.plot([], [], color="#333333", marker="x", markersize=4, linestyle="", label="buys nothing")
        axes.legend(fontsize=7, loc="upper left")
    names = ["cheapest half" if family == CHEAPEST else f"rows up to {level:g}x" for family, level in choices]
    axes.set_xticks(range(len(choices)), names, fontsize=7)


def draw_lines(lines: Sequence[ReplayLine], path: Path, title: str = "") -> None:
    """Plot ratios over accounts, over fillers, and for thieves who abandon rows; honest callers in grey."""
    style = _PlotStyle(lines)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(11.5, 4.2), layout="constrained")
        panels = figure.subplots(1, 3, sharey=True)
        _draw_curves(panels[0], [line for line in lines if line.family == ACCOUNTS], style, marked=False)
        _draw_curves(panels[1], [line for line in lines if line.family == FILLERS], style, marked=True)
        _draw_selective(panels[2], [line for line in lines if line.family in (ABANDON, CHEAPEST)], style)
        for axes, label in zip(panels, ("accounts", "fillers per stolen row", "what a choosy thief buys"), strict=True):
            axes.set_yscale("log")
            axes.set_xlabel(label)
            for line in lines:
                if line.family == HONEST and line.kind == "recorded" and line.ratio:
                    axes.axhline(line.ratio, color="#888888", linestyle=style.line_styles[line.tariff], linewidth=0.9)
        panels[0].set_xscale("log")
        panels[1].set_xscale("log", base=2)
        for axes in panels[:2]:
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        panels[0].set_ylabel("seconds with the toll / without, per stolen row")
        for sample, colour in style.colours.items():
            panels[0].plot([], [], color=colour, label=sample)
        for tariff, line_style in style.line_styles.items():
            panels[0].plot([], [], color="#333333", linestyle=line_style, label=f"{tariff} tariff")
        panels[0].plot([], [], color="#888888", linewidth=0.9, label="honest callers")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=8, fontsize=8)
        figure.suptitle(title)
        figure.savefig(path, dpi=150)


def draw_factors(
    factors: Mapping[str, Floats | Sequence[float]], unit_seconds: float, path: Path, title: str = ""
) -> None:
    """Plot the share of rows above each price, in units and seconds, for each named sample of factors (rows,)."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7.0, 4.2), layout="constrained")
        axes = figure.subplots()
        for place, (name, values) in enumerate(factors.items()):
            ascending = np.sort(np.asarray(values, np.float64))
            share = 1.0 - np.arange(len(ascending)) / len(ascending)
            axes.step(
                ascending,
                share,
                where="post",
                color=_COLOURS[::-1][place % len(_COLOURS)],
                label=f"{name}, mean {ascending.mean():.3g} units",
            )
        axes.axvline(1.0, color="#bbbbbb", linewidth=0.8)
        axes.set(
            xscale="log", yscale="log", xlabel="price of a row, units", ylabel="share of rows that cost so much or more"
        )
        seconds = axes.secondary_xaxis(
            "top", functions=(lambda x: np.multiply(x, unit_seconds), lambda x: np.divide(x, unit_seconds))
        )
        seconds.set_xlabel("seconds on one reference core")
        axes.legend(fontsize=8)
        figure.suptitle(title)
        figure.savefig(path, dpi=150)
