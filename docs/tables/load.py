"""Throughput of a gateway, and its accounts after a process is killed: results/benchmarks."""

from __future__ import annotations

from tables.form import read, table

__all__ = ["kills", "throughput"]


def kills() -> str:
    """Requests and charges after kill -9 under load."""
    result = read("benchmarks/kills")
    head = [
        "ledger",
        "killed",
        "tolls",
        "refused (5xx)",
        "interrupted",
        "charged without an answer",
        "acknowledged and lost",
        "released unpriced",
    ]
    names = ("tolls", "refused_5xx", "broken_off", "charged_without_answer", "lost", "released_unpriced")
    victims = {"worker": "a worker", "gateway": "the gateway", "ledger": "its server"}
    rows = [
        [line["store"], victims[line["killed"]], *(f"{line[name]:,}" for name in names)] for line in result["kills"]
    ]
    return table(head, rows, words=2) + f"\n`{result['command']}`\n"


def throughput(name: str = "throughput") -> str:
    """Throughput, times and memory of one worker on each ledger."""
    result = read(f"benchmarks/{name}")
    head = ["ledger", "requests a second", "median", "p99", "CPU time a request", "memory: early, late, peak"]
    rows = [
        [
            line["store"],
            f"{line['per_second']:,.0f}",
            f"{line['p50_ms']:.1f} ms",
            f"{line['p99_ms']:.0f} ms",
            f"{line['cpu_ms']:.2f} ms",
            f"{line['mib_early']:.0f}, {line['mib_late']:.0f}, {line['mib_most']:.0f} MiB",
        ]
        for line in result["stores"]
    ]
    conditions = (
        f"with {result['cores']} cores, on a machine with other load (load average {result['load_average']:.1f})"
    )
    return table(head, rows) + f"\n`{result['command']}`, {conditions}.\n"
