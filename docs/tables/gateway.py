"""The time of the gate on each ledger, whole and by step: results/benchmarks."""

from __future__ import annotations

from tables.form import read, table

__all__ = ["early_measurement", "gate", "steps"]


def gate() -> str:
    """Own time, throughput and memory beside a pass-through."""
    result = read("benchmarks/bench_gateway")
    bare = {line["connections"]: line for line in result["proxies"] if line["proxy"] == "pass-through"}
    many = max(bare)
    rows = []
    for line in result["ledgers"]:
        own = {each["connections"]: each for each in result["proxies"] if each["proxy"] == line["ledger"]}
        rows.append(
            [
                line["ledger"],
                f"{line['own_p50_ms']:.2f} ms ({_range(line['own_p50_ms_range'], '.2f')})",
                f"{line['own_p50_ms_target']} ms",
                f"{line['own_cpu_ms']:.2f} ms",
                f"{own[many]['per_second']:,} of {bare[many]['per_second']:,}",
                f"{line['throughput_ratio']:.0%} ({_range(line['throughput_ratio_range'], '.0%')})",
            ]
        )
    head = [
        "ledger",
        "own time, one connection",
        "target",
        "own processor time",
        f"requests a second, {many} connections",
        "share of the pass-through (target: 25 % on SQLite)",
    ]
    return table(head, rows) + (
        f"\nMemory of a gateway with 60,000 private points of 10 numbers: {result['memory_mib']} MiB (target: "
        f"{result['memory_mib_target']}).\n\n`{result['command']}`: medians, and in brackets the smallest and the largest "
        "of the repetitions.\n"
    )


def _range(pair: list[float], form: str) -> str:
    low, high = pair
    return f"{low:{form}} to {high:{form}}"


def steps() -> str:
    """The steps of a request, in microseconds."""
    result = read("benchmarks/profile_gateway")
    tables = result["microseconds"]
    head = ["step", *(f"{name}, {kind}" for name in tables for kind in ("in a row", "with pauses"))]
    first = next(iter(tables.values()))
    rows = [
        [
            "whole request" if step == "whole visit" else step,
            *(f"{tables[name][step][kind]:.0f}" for name in tables for kind in ("in a row", "with pauses")),
        ]
        for step in first
    ]
    calls = " and ".join(
        f"{result['calls']['sqlite'][kind]} calls of {kind.capitalize()} functions" for kind in ("python", "c")
    )
    return table(head, rows) + f"\nMicroseconds. With SQLite a request takes {calls}. `{result['command']}`\n"


def early_measurement() -> str:
    """The time that a slow measure of inputs adds, measured beside or after the answer."""
    result = read("benchmarks/bench_early_measurement")
    ways = [name for name in result["adds_ms"][0] if name != "takes_ms"]
    rows = [[f"{line['takes_ms']:g} ms", *(f"{line[way]:.2f} ms" for way in ways)] for line in result["adds_ms"]]
    answered = f"The model server answers after {result['answer_ms']:g} ms. `{result['command']}`"
    return table(["the measure takes", *(f"measured {way}" for way in ways)], rows, 0) + f"\n{answered}\n"
