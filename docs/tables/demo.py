"""Prices of the demo's callers: results/demo."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tables.form import RESULTS, read, table

__all__ = ["demo"]


def demo(data: str) -> str:
    """The runs of the demo on different machines, caller by caller; figures are ranges over those of as many queries."""
    latest = read(f"demo/{data}")
    runs = [latest, *(run for run in map(read, _others(data)) if _queries(run) == _queries(latest))]
    honest = [run["honest_callers"] for run in runs]
    rows = [
        [
            each["name"],
            "1",
            str(each["queries"]),
            f"**{_range([run[place]['mean_ratio'] for run in honest], '.2f')}x**",
            "",
        ]
        for place, each in enumerate(honest[0])
    ]
    for place, thief in enumerate(runs[0]["thieves"]):
        same = [run["thieves"][place] for run in runs]
        fillers = thief["requests"] - thief["queries"]
        queries = f"{thief['queries']} + {fillers} fillers" if fillers else str(thief["queries"])
        ratio = _range([_rounded(each["ratio"]) for each in same], ",.0f")
        accuracy = _range([each["accuracy"] for each in same], ".0%")
        rows.append([thief["name"], str(thief["accounts"]), queries, f"**{ratio}x**", accuracy])

    def over(value: Callable[[Any], float], form: str) -> str:
        return _range([value(run) for run in runs], form)

    changed = sum(run["answers_changed"] for run in runs)
    ranges = f"Ranges are over {len(runs)} runs, under different load. " if len(runs) > 1 else ""
    return table(["caller", "accounts", "queries", "time with toll / without", "clone accuracy"], rows) + (
        f"\n{ranges}The victim is right on "
        f"{over(lambda run: run['victim']['accuracy'], '.1%')} of test rows and takes "
        f"{over(lambda run: run['undefended_ms_per_row'], '.0f')} ms a row. "
        f"{over(lambda run: run['answers_compared'], '.0f')} opened answers were compared with the model server's own; {changed} differ. "
        f"Half of the honest rows waited at most {over(lambda run: run['honest']['p50_ms'], '.0f')} ms, "
        f"99 % at most {over(lambda run: run['honest']['p99_ms'], '.0f')} ms.\n"
    )


def _others(data: str) -> list[str]:
    """The results of further runs, ``DATA-WHERE.json``."""
    return [f"demo/{path.stem}" for path in sorted((RESULTS / "demo").glob(f"{data}-*.json"))]


def _queries(run: Any) -> list[int]:
    return [caller["queries"] for caller in (*run["honest_callers"], *run["thieves"])]


def _rounded(ratio: float) -> float:
    """A thief's ratio to hundreds, for it differs by more between runs."""
    return round(ratio, -2)


def _range(values: Sequence[float], form: str) -> str:
    low, high = format(min(values), form), format(max(values), form)
    return low if low == high else f"{low} to {high}"
