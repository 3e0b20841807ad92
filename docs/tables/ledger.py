"""Times of the ledgers' steps, and exactness of their counts: results/benchmarks."""

from __future__ import annotations

from tables.form import read, table

__all__ = ["counting", "ledgers"]

_STEPS = {
    "settle_p50_us": "settle, median",
    "settle_p99_us": "settle, p99",
    "charge_p50_us": "charge, median",
    "charge_p99_us": "charge, p99",
    "bill_p50_us": "bill, median",
}


def ledgers() -> str:
    """Times of the steps on each ledger."""
    result = read("benchmarks/bench_ledger")
    columns = {name: head for name, head in _STEPS.items() if name in result["ledgers"][0]}
    rows = []
    for line in result["ledgers"]:
        waits = [f"{line[name] / 1000:.2f} ms" for name in columns]
        busy = [f"{line['cpu_us'] / 1000:.2f} ms"] if "cpu_us" in line else []
        rows.append([line["store"], str(line["callers"]), *waits, f"{line['pairs_per_second']:,}", *busy])
    busy = ["processor time of the gateway"] if "cpu_us" in result["ledgers"][0] else []
    head = ["ledger", "concurrent callers", *columns.values(), "requests a second", *busy]
    return table(head, rows) + (
        f"\n`{result['command']}`, on a machine with other load (load average {result['load_average']:.1f}).\n"
    )


def counting() -> str:
    """Counts of several gateways with several workers."""
    result = read("benchmarks/exact_counting")
    head = [
        "ledger",
        "rows sent",
        "in accounts",
        "in the log",
        "in the metrics",
        "callers exact",
        "quota: allowed, granted",
    ]
    rows = [
        [
            line["store"],
            f"{line['rows']:,}",
            *(f"{line[name]:,}" for name in ("rows_in_accounts", "rows_in_log")),
            f"{line['rows_in_metrics']:,.0f}",
            f"{line['callers_exact']} of {line['callers']}",
            f"{line['capped_allowed']}, {line['capped_got']}",
        ]
        for line in result["stores"]
    ]
    return table(head, rows) + f"\n`{result['command']}`\n"
