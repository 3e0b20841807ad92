"""Figures of ``bench_growth.py``: one of each part, with logarithmic axes."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, StrMethodFormatter

__all__ = ["draw"]

_COLOURS = ("#c1440e", "#1f5fa8", "#7a3b9b", "#0b6e4f")
_STYLE = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False}
# of each part: the member of x, that of a curve's name, its axis, and y by a name for people
_PARTS = {
    "accounts": ("accounts", "store", "accounts in the ledger", {"wall_us": "median", "cpu_us": "gateway's processor"}),
    "rows": ("rows", None, "rows of a request", {"wall_us": "a request", "cpu_us_per_row": "processor time of a row"}),
    "points": ("points", "measure", "private points", {"wall_us": "median"}),
    "kinds": ("kinds", "caller", "declared kinds of honest callers", {"wall_us": "median", "cpu_us": "processor time"}),
}
_LINES = ("-", "--")  # of each y


def draw(result, folder):
    """Write ``growth-PART.png`` for each part of the result."""
    for part in _PARTS:
        if part in result:
            _draw(result[part], part, Path(folder) / f"growth-{part}.png")


def _draw(lines, part, path):
    x, name, title, ys = _PARTS[part]
    curves = list(dict.fromkeys(line[name] if name else "" for line in lines))
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(6.0, 3.6), layout="constrained")
        axes = figure.subplots()
        for place, curve in enumerate(curves):
            own = [line for line in lines if not name or line[name] == curve]
            for style, (y, label) in zip(_LINES, ys.items(), strict=False):
                axes.plot(
                    [line[x] for line in own],
                    [line[y] / 1000 for line in own],
                    style,
                    color=_COLOURS[place],
                    marker="o",
                    markersize=4,
                    linewidth=1.2,
                    label=f"{curve}, {label}" if curve else label,
                )
        axes.set(xscale="log", yscale="log", xlabel=title, ylabel="milliseconds")
        axes.set_xticks(sorted({line[x] for line in lines}))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_minor_formatter(NullFormatter())
            axis.set_major_formatter(StrMethodFormatter("{x:,g}"))
        axes.grid(alpha=0.25)
        axes.legend(fontsize=8)
        figure.savefig(path, dpi=150)
