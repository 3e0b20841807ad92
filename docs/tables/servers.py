"""Real model servers behind the gateway, with prices and compared answers: results/benchmarks/real_servers.json."""

from __future__ import annotations

from typing import Any

from tables.form import read, table

__all__ = ["servers"]

CALLERS = {"honest": "unseen digits", "pictures": "photograph patches", "noise": "noise"}


def _paid(caller: Any) -> str:
    ratio = caller["ratio"]
    return f"{caller['row_units']:.3g} units, {f'{ratio:.2f}' if ratio < 10 else f'{ratio:,.0f}'}x"


def servers() -> str:
    """Server by server: the time of a row, what rows cost, and how many answers were compared."""
    found = read("benchmarks/real_servers")
    rows = []
    for server in found["servers"]:
        callers = server["callers"]
        name = server["server"] + (", with TollMiddleware" if server["within"] else "")
        sums = [str(sum(caller[what] for caller in callers.values())) for what in ("opened", "changed")]
        prices = [_paid(callers[who]) for who in CALLERS]
        rows.append([name, f"`{server['protocol']}`", f"{server['undefended_ms']:.1f} ms", *prices, *sums])
    head = ["server", "protocol", "a row without toll", *CALLERS.values(), "answers compared", "differ"]
    asked = ", ".join(f"{found['servers'][0]['callers'][who]['rows']} of {name}" for who, name in CALLERS.items())
    return table(head, rows, 2) + (
        f"\nRows: {asked}; each caller paid for {found['budget_seconds']:g} s of work. "
        f"`{found['command']}`, on a machine with other load (load average {found['load_average']:.1f}).\n"
    )
