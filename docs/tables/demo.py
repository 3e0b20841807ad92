"""Prices of the demo's callers: results/demo."""

from __future__ import annotations

from tables.form import read, table

__all__ = ["demo"]


def demo(data: str) -> str:
    """A run of the demo, caller by caller."""
    result = read(f"demo/{data}")
    honest = result["honest"]
    callers = result.get("honest_callers", [{"name": "honest caller", **honest}])
    rows = [[each["name"], "1", str(each["queries"]), f"**{each['mean_ratio']:.2f}x**", ""] for each in callers]
    for thief in result["thieves"]:
        fillers = thief["requests"] - thief["queries"]
        queries = f"{thief['queries']} + {fillers} fillers" if fillers else str(thief["queries"])
        rows.append(
            [thief["name"], str(thief["accounts"]), queries, f"**{thief['ratio']:,.0f}x**", f"{thief['accuracy']:.0%}"]
        )
    return table(["caller", "accounts", "queries", "time with toll / without", "clone accuracy"], rows) + (
        f"\nThe victim is right on {result['victim']['accuracy']:.1%} of test rows and takes {result['undefended_ms_per_row']:.1f} ms a row. "
        f"{result['answers_compared']} opened answers were compared with the model server's own; "
        f"{result['answers_changed']} differ. Half of the honest rows waited at most {honest['p50_ms']:.0f} ms, "
        f"99 % at most {honest['p99_ms']:.0f} ms.\n"
    )
