"""The demo's report: ``result.json``, ``ratios.png`` and ``report.html``."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from modeltoll.formatting import times

if TYPE_CHECKING:
    from modeltoll.demo.run import DemoOutcome
    from modeltoll.demo.summary import CallerSummary, SummaryLine

__all__ = ["HEADINGS", "result", "table", "write_report"]

HEADINGS = ("caller", "accounts", "queries", "leak", "s without", "s with", "solved", "ratio", "accuracy", "fidelity")
_COLOURS = ("#0b6e4f", "#c1440e", "#7a3b9b", "#1f5fa8", "#9a6a00", "#5a5a5a", "#b0306a", "#00798c")


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
    """The clones' accuracy against seconds, with the toll (solid) and without (dashed)."""
    with mpl.rc_context({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(9.5, 5.0), layout="constrained")
        axes = figure.add_subplot()
        for line, colour in zip(outcome.thieves, _COLOURS, strict=False):
            accuracy = [100 * clone.accuracy for _, _, clone in line.curve]
            without, paid = [point[0] for point in line.curve], [point[1] for point in line.curve]
            axes.plot(without, accuracy, "--", color=colour, marker="o", markersize=3, alpha=0.6)
            axes.plot(paid, accuracy, "-", color=colour, marker="o", markersize=4, label=line.name)
        honest = next(iter(outcome.honest.values()))
        axes.axvspan(
            float(honest.seconds_without.sum()),
            float(honest.seconds_with.sum()),
            color="#0b6e4f",
            alpha=0.15,
            label=f"honest caller, {len(honest.traffic.requests)} queries: {honest.ratio:.2f}x",
        )
        axes.axhline(100 * outcome.victim_accuracy, color="#888888", linewidth=0.8)
        axes.annotate(
            "victim", (1, 100 * outcome.victim_accuracy), xycoords=("axes fraction", "data"), ha="right", va="bottom"
        )
        axes.set(
            xscale="log",
            xlabel="seconds that the caller waits (dashed: without the toll)",
            ylabel="clone's accuracy, %",
        )
        axes.set_ylim(0, 102)
        axes.grid(alpha=0.25)
        axes.legend(fontsize=8, loc="lower right")
    return figure


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
