"""Honest callers of a table with categories, and strangers: results/benchmarks/categories.json."""

from __future__ import annotations

from typing import Any

from modeltoll.formatting import number, percent, times
from tables.form import read, table

__all__ = ["categories"]


def _suspected(paid: dict[str, Any]) -> str:
    if not paid["suspected"]:
        return ""
    share = "" if paid["suspected"] == 1.0 else f"{percent(paid['suspected'])} "
    return f"{share}from row {number(paid['first_alarm'])}"


def categories() -> str:
    """What each caller pays, with the strangers' families known to the operator or not."""
    result = read("benchmarks/categories")
    rows = []
    for line in (*result["honest"], *result["thieves"]):
        name = f"strangers, {line['name']}, {line['accounts']} accounts" if "accounts" in line else line["name"]
        declared = {True: "yes", False: "no"}.get(line.get("declared"), "")
        cells = [cell for paid in line["tariffs"].values() for cell in (times(paid["ratio"]), _suspected(paid))]
        rows.append([name, declared, *cells])
    tolls = ["strangers known", "strangers unknown", "strangers known, three more kinds"]
    head = ["caller", "declared", *(cell for toll in tolls for cell in (toll, "suspected"))]
    machine = result["machine"]
    return table(head, rows, 2) + (
        f"\n`{result['command']}`; {machine['cores']} cores, {machine['machine']}; undefended "
        f"{number(result['undefended_ms'])} ms a row, gateway {number(result['gate_ms'])} ms.\n"
    )
