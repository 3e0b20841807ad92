"""What a step of each ledger takes: results/benchmarks."""

from __future__ import annotations

from tables.form import read, table

__all__ = ["ledgers"]


def ledgers() -> str:
    """What the benchmark of the ledgers measured."""
    result = read("benchmarks/bench_ledger")
    rows = []
    for line in result["ledgers"]:
        waits = [f"{line[name] / 1000:.2f} ms" for name in ("charge_p50_us", "charge_p99_us", "bill_p50_us")]
        rows.append([line["store"], str(line["callers"]), *waits, f"{line['pairs_per_second']:,}"])
    head = ["ledger", "callers at once", "charge, median", "charge, 99 of 100", "bill, median", "both, a second"]
    return table(head, rows) + (
        f"\n`{result['command']}`, beside other work of that machine (load average {result['load_average']:.1f}).\n"
    )
