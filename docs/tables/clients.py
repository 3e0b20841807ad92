"""Argon2id rates of the clients on one machine: results/benchmarks/bench_clients.json."""

from __future__ import annotations

from modeltoll.formatting import number
from tables.form import read, table

__all__ = ["clients"]

_CLIENTS = {"python": "Python", "node": "Node", "chromium": "Chromium"}


def clients() -> str:
    """Evaluations per second on one core, by memory and client."""
    result = read("benchmarks/bench_clients")
    heads = [f"{title} {'.'.join(result['versions'][name].split('.')[:2])}" for name, title in _CLIENTS.items()]
    rows = [
        [f"{line['memory_kib'] / 1024:g} MiB", *(number(line[name]) for name in _CLIENTS)]
        for line in result["evaluations_per_second"]
    ]
    return table(["argon2id, evaluations a second", *heads], rows)
