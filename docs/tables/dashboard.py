"""The cost of the dashboard for a gateway: results/benchmarks."""

from __future__ import annotations

from tables.form import read, table

__all__ = ["watched"]


def watched() -> str:
    """Times of charges with the dashboard closed and open."""
    result = read("benchmarks/bench_dashboard")
    rows = []
    for words, name in (("dashboard closed", "alone"), ("page requested once a second", "watched")):
        line = result[name]
        steps, held = line["charge_and_bill"], line["held"]
        waits = [f"{value:.2f} ms" for value in (steps["p50_ms"], steps["p99_ms"], held["p99_ms"])]
        rows.append([words, f"{line['charges']:,}", *waits, f"{line['cpu_ms_per_charge']:.2f} ms"])
    head = ["", "charges", "charge and bill, median", "p99", "delay of other requests, p99", "CPU time a charge"]
    first, held = result["first_page_seconds"], result["first_page_held"]["longest_ms"]
    return table(head, rows) + (
        f"\nThe first page took {first:.1f} s and delayed other requests by at most {held:.0f} ms. `{result['command']}`, on a "
        f"machine with other load (load average {result['load_average']:.1f}).\n"
    )
