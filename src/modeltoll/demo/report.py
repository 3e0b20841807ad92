"""The demo's report: ``result.json``, ``ratios.png`` and ``report.html``."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import jinja2
import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from modeltoll.formatting import times

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from modeltoll.demo.run import DemoOutcome
    from modeltoll.demo.summary import CallerSummary, SummaryLine

__all__ = ["HEADINGS", "result", "table", "write_report"]

HEADINGS = ("caller", "accounts", "queries", "leak", "s without", "s with", "solved", "ratio", "accuracy", "fidelity")
_LABEL_HEIGHT, _LABEL_WIDTH = 7.0, 48  # of the curves' labels, in percent and in characters
_HONEST = "#0b6e4f"
_COLOURS = ("#3a4a5a", "#c1440e", "#7a3b9b", "#1f5fa8", "#9a6a00", "#5a5a5a", "#b0306a", "#00798c")


def _thief(line: SummaryLine) -> dict[str, Any]:
    summary = line.summary
    return {
        "name": line.name,
        "accounts": summary.traffic.accounts,
        "queries": int(summary.traffic.wanted.sum()),
        "suspected_from": summary.first_suspected,
        "requests": len(summary.traffic.requests),
        "solved": summary.solved,
        "ratio": summary.ratio,
        "paid_seconds": float(summary.seconds_with.sum()),
        "accuracy": line.clone.accuracy,
        "fidelity": line.clone.fidelity,
    }


def _honest(title: str, summary: CallerSummary) -> dict[str, Any]:
    p50, p99 = np.quantile(summary.seconds_with, (0.5, 0.99)) * 1000
    return {
        "name": title,
        "queries": len(summary.traffic.requests),
        "mean_ratio": summary.ratio,
        "p50_ms": float(p50),
        "p99_ms": float(p99),
        "suspected": int(summary.suspected.sum()),
    }


def result(outcome: DemoOutcome) -> dict[str, Any]:
    """The content of ``result.json``."""
    honest = [_honest(title, summary) for title, summary in outcome.honest.items()]
    return {
        "victim": {"accuracy": outcome.victim_accuracy},
        "undefended_ms_per_row": 1000 * outcome.undefended_seconds,
        "unit_ms": 1000 * outcome.calibration.unit_seconds,
        "honest": honest[0],
        "honest_callers": honest,
        "thieves": [_thief(line) for line in outcome.thieves],
        "answers_compared": outcome.compared,
        "answers_changed": outcome.changed,
        "seconds": outcome.seconds,
        "data": outcome.options.data,
        "seed": outcome.options.seed,
    }


def _cells(name: str, summary: CallerSummary, quality: tuple[str, str]) -> tuple[str, ...]:
    without = float(summary.seconds_without[summary.traffic.wanted].sum())
    requests, wanted = len(summary.traffic.requests), int(summary.traffic.wanted.sum())
    return (
        name,
        str(summary.traffic.accounts),
        str(wanted) if requests == wanted else f"{wanted} + {requests - wanted}",
        " / ".join(f"{leak:.0f}" for leak in summary.leaks),
        f"{without:.2f}",
        f"{summary.seconds_with.sum():,.1f}",
        f"{summary.solved}/{requests}",
        times(summary.ratio, whole_from=10.0),
        *quality,
    )


def table(outcome: DemoOutcome) -> list[tuple[str, ...]]:
    """One row of cells per caller under ``HEADINGS``. The leak is entropy / novelty, each summed over the rows."""
    thieves = [
        _cells(line.name, line.summary, (f"{line.clone.accuracy:.1%}", f"{line.clone.fidelity:.1%}"))
        for line in outcome.thieves
    ]
    return [*(_cells(title, summary, ("", "")) for title, summary in outcome.honest.items()), *thieves]


def _figure(outcome: DemoOutcome) -> Figure:
    """The clones' accuracy against seconds: a group of curves without the toll, and one with it, labelled at their ends."""
    with mpl.rc_context({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(11.0, 5.4))
        axes = figure.add_axes((0.06, 0.11, 0.62, 0.85))
        axes.set(xscale="log", xlabel="seconds that a caller waits", ylabel="accuracy of the clone, %", ylim=(0, 108))
        axes.grid(alpha=0.2)
        ends = []
        for line, colour in zip(outcome.thieves, _COLOURS, strict=False):
            accuracy = [100 * clone.accuracy for _, _, clone in line.curve]
            without, paid = [point[0] for point in line.curve], [point[1] for point in line.curve]
            axes.plot(without, accuracy, "--", color=colour, marker="o", markersize=2.5, linewidth=1.1, alpha=0.7)
            axes.plot(paid, accuracy, "-", color=colour, marker="o", markersize=3.5, linewidth=1.8)
            ends.append((accuracy[-1], paid[-1], f"{line.name}, {times(line.summary.ratio, whole_from=10.0)}", colour))
        _label_ends(axes, ends)
        _label_groups(axes, outcome)
    return figure


def _label_ends(axes: Axes, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Labels right of the axes, one below another in the order of the curves' ends, each with a line to its end.

    ``ends``: accuracy, seconds, text and colour of each curve.
    """
    heights = _spread([accuracy for accuracy, _, _, _ in ends], _LABEL_HEIGHT)
    for (accuracy, seconds, text, colour), height in zip(ends, heights, strict=True):
        axes.annotate(
            fill(text, _LABEL_WIDTH),
            (seconds, accuracy),
            (1.04, height),
            textcoords=("axes fraction", "data"),
            color=colour,
            fontsize=8.5,
            va="center",
            linespacing=1.05,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.7,
                "alpha": 0.6,
                "shrinkB": 3,
                "relpos": (0.0, 0.5),
            },
        )


def _spread(heights: Sequence[float], least: float) -> list[float]:
    """Heights in the same order, ``least`` apart at least, and no lower than ``least`` / 2; on average they stay."""
    order = np.argsort(heights, kind="stable")
    spread, low = np.zeros(len(heights)), -np.inf
    for place in order:
        spread[place] = low = max(low, heights[place])
        low += least
    spread -= (spread - heights).mean()
    spread += max(0.0, least / 2 - spread.min(initial=np.inf))
    return [float(height) for height in spread]


def _label_groups(axes: Axes, outcome: DemoOutcome) -> None:
    """Titles of both groups, what the honest caller waits, and the victim's accuracy."""
    honest = next(iter(outcome.honest.values()))
    begin, end = float(honest.seconds_without.sum()), float(honest.seconds_with.sum())
    axes.axvspan(begin, end, color=_HONEST, alpha=0.18, linewidth=0)
    text = f"honest caller,\n{len(honest.traffic.requests)} queries: {honest.ratio:.2f}x"
    axes.annotate(text, (end, 72), (6, 0), textcoords="offset points", color=_HONEST, fontsize=9, va="center")
    victim = 100 * outcome.victim_accuracy
    axes.axhline(victim, color="#666666", linewidth=0.8)
    without = min(points[0] for line in outcome.thieves for points in line.curve)
    paid = min(points[1] for line in outcome.thieves for points in line.curve)
    axes.text(without, 103, "thieves without the toll", va="center", fontweight="bold")
    axes.text(paid, 103, "thieves with the toll", va="center", fontweight="bold")
    text = f"victim, {victim:.0f} %"
    axes.annotate(text, (1, victim), (0, -3), ("axes fraction", "data"), "offset points", ha="right", va="top")


def write_report(outcome: DemoOutcome, folder: Path) -> None:
    """Write the three files into ``folder``, which is created if it does not exist."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").write_text(json.dumps(result(outcome), indent=2) + "\n")
    _figure(outcome).savefig(folder / "ratios.png", dpi=130)
    template = resources.files("modeltoll.demo").joinpath("report.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    page = environment.from_string(template).render(
        result=result(outcome), headings=HEADINGS, rows=table(outcome), report=outcome.calibration.report
    )
    (folder / "report.html").write_text(page, encoding="utf-8")
