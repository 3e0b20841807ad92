"""How the cost of a request grows, and what large uploads cost: results/benchmarks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tables.form import read, table

__all__ = ["growth", "growth_command", "uploads"]

_ACCOUNTS = {"accounts": "accounts", "wall_us": "median", "cpu_us": "processor time"}
_HEADS = {
    "accounts": {"store": "ledger", **_ACCOUNTS, "largest_ms": "the 20 largest accounts"},
    "rows": {
        "rows": "rows",
        "wall_us": "median",
        "cpu_us": "processor time",
        "cpu_us_per_row": "processor time of a row",
    },
    "points": {"measure": "measure", "points": "private points", "wall_us": "median", "cpu_us": "processor time"},
    "kinds": {"caller": "caller", "kinds": "declared kinds", "wall_us": "median", "cpu_us": "processor time"},
}
_WORDS = {"accounts": 1, "rows": 0, "points": 1, "kinds": 1}  # columns of words


def growth(part: str) -> str:
    """One part: a line for each point."""
    heads = _HEADS[part]
    rows = [[_cell(name, line) for name in heads] for line in read("benchmarks/bench_growth")[part]]
    return table(list(heads.values()), rows, _WORDS[part])


def growth_command() -> str:
    """The command that measured all parts."""
    result = read("benchmarks/bench_growth")
    return f"`{result['command']}`, on a machine with a load average of {result['load_average']} at the start.\n"


def _cell(name: str, line: Mapping[str, Any]) -> str:
    value = line[name]
    if name.endswith(("_us", "_us_per_row")):
        return f"{value / 1000:,.3g} ms" if value >= 1000 else f"{value:.0f} us"
    if name.endswith("_ms"):
        return f"{value:,.3g} ms"
    return value if isinstance(value, str) else f"{value:,}"


def uploads() -> str:
    """Memory of a worker under uploads, and the waits of other callers meanwhile."""
    result = read("benchmarks/bench_uploads")
    head = [
        "upload",
        "memory before",
        "at most",
        "all answered after",
        "others alone, p99",
        "others meanwhile, p50",
        "p99",
        "longest",
    ]
    rows = [
        [
            line["kind"],
            f"{line['mib_before']} MiB",
            f"{line['mib_most']} MiB",
            f"{line['seconds']:.1f} s",
            *(f"{line[name]:.0f} ms" for name in ("alone_p99_ms", "others_p50_ms", "others_p99_ms", "others_max_ms")),
        ]
        for line in result["kinds"]
    ]
    return table(head, rows) + (
        f"\n{result['uploads']} uploads of {result['mib']:g} MiB. Targets: at most {result['memory_mib_target']} MiB, p99 below "
        f"{result['p99_ms_target']} ms. `{result['command']}`, with {result['cores']} cores, on a machine with a load average of "
        f"{result['load_average']} at the start.\n"
    )
