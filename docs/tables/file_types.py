"""Honest callers of one file type each, and strangers, at a real model: results/benchmarks/file_types.json."""

from __future__ import annotations

from typing import Any

from modeltoll.formatting import number
from tables.form import read, table

__all__ = ["file_types"]

_EVIDENCE = ("kinds", "kinds and own logs")  # tariffs whose log evidence is shown


def _paid(paid: dict[str, Any]) -> str:
    """Units a row; of suspects those before suspicion, the mean of all rows, and the row at which suspicion began."""
    if paid["suspected_at"] is None:
        return f"{paid['units']:.2f}"
    before = "-" if paid["units_before"] is None else f"{paid['units_before']:.2f}"
    return f"{before}; {number(paid['units'])} overall, from row {paid['suspected_at']:,}"


def file_types() -> str:
    """What each caller pays under each tariff, in units a row."""
    lines = read("benchmarks/file_types")["callers"]
    names = list(lines[0]["tariffs"])
    rows = [
        [
            f"{'honest, ' if line['honest'] else ''}{line['name']}",
            *(_paid(line["tariffs"][name]) for name in names),
            *(f"{line['tariffs'][name]['largest_log_evidence']:.1f}" for name in _EVIDENCE),
        ]
        for line in lines
    ]
    evidence = [f"log evidence, {name}" for name in _EVIDENCE]
    return table(["caller", *names, *evidence], rows)
