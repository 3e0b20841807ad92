"""A real model server over gRPC, and mutated calls: results/benchmarks/real_grpc_server.json and mutations-grpc.json."""

from __future__ import annotations

from typing import Any

from tables.form import read, table

__all__ = ["grpc_mutations", "grpc_server"]

CALLERS = {"honest": "unseen digits", "pictures": "photograph patches", "noise": "noise"}
SPOKEN = {"grpc": "gRPC", "http": "HTTP"}


def _row(upstream: str, who: str, caller: Any) -> list[str]:
    prices = [f"{caller[name]:,.3f}" for name in ("charged_units", "charged_units_http")]
    counts = [str(caller[name]) for name in ("rows", "opened", "changed", "priced_differently")]
    return [SPOKEN[upstream], CALLERS[who], *prices, *counts]


def grpc_server() -> str:
    """Caller by caller: mean prices over gRPC and over HTTP, and what was compared."""
    found = read("benchmarks/real_grpc_server")
    rows = [_row(name, who, one) for name, callers in found["upstreams"].items() for who, one in callers.items()]
    head = ["the model server is asked over", "rows", "units over gRPC", "units over HTTP"]
    crowds = found["callers_at_once"]
    calls = {one["calls"] for one in crowds.values()}
    changed = sum(one["changed"] for one in crowds.values())
    return table([*head, "sent", "opened", "changed", "priced differently"], rows, 2) + (
        f"\n32 callers at once through the interceptor, through the sidecar, and with a kill of the gateway in the middle: "
        f"{' or '.join(map(str, calls))} calls each, {changed} answers changed. {found['server']}; `{found['command']}`, on a machine "
        f"with other load (load average {found['load_average']:.1f}).\n"
    )


def grpc_mutations() -> str:
    """Mutated calls and what became of them."""
    found = read("benchmarks/mutations-grpc")
    rows = []
    for one in found["protocols"]:
        codes = ", ".join(f"{count:,} `{code}`" for code, count in one["statuses"].items())
        rows.append([one["protocol"].removesuffix(" upstream"), codes, f"{one['requests']:,}", str(one["faults"])])
    return table(["model server", "codes", "calls", "faults"], rows, 2) + f"\n`{found['command']}`.\n"
