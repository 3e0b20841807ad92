"""The time of the gate beside pass-throughs and neighbours, and by step: results/benchmarks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tables.form import read, table

__all__ = [
    "early_measurement",
    "gate",
    "gate_beside_altcha",
    "gate_for_chats",
    "gate_instructions",
    "gate_over_grpc",
    "steps",
]


_NOT_MEASURED = "This part was not in the recorded run.\n"
_NONE = "\N{EN DASH}"
_LITELLM = "litellm"
_PROXIES = {"shadow": "a gateway in shadow mode", "enforce": "a gateway that enforces", _LITELLM: "LiteLLM's proxy"}
_CHALLENGES = {"sha256": "ALTCHA, SHA-256", "argon2id": "ALTCHA, Argon2id with 64 KiB"}


def gate() -> str:
    """Rows over HTTP: each ledger beside the pass-through."""
    result = read("benchmarks/bench_gateway")
    return _beside(result, "rows", {}) + (
        f"\nMemory of a gateway with 60,000 private points of 10 numbers: {result['memory_mib']} MiB (target: "
        f"{result['memory_mib_target']}).\n\n{_conditions(result)}"
    )


def gate_over_grpc() -> str:
    """Rows over gRPC, on SQLite."""
    return _part("grpc", {})


def gate_for_chats() -> str:
    """Chats: gateways in both modes and LiteLLM's proxy."""
    result, text = read("benchmarks/bench_gateway"), _part("chats", _PROXIES)
    beside = {line["proxy"]: line[_LITELLM] for line in result["comparisons"] if _LITELLM in line}
    if not beside:
        return text
    ratios = "; ".join(f"{_PROXIES[name]} {_times(line['throughput_ratio'])}" for name, line in beside.items())
    return f"{text}\nRequests a second beside LiteLLM {result[_LITELLM]} (target: {result['litellm_target']:g} times): {ratios}.\n"


def gate_beside_altcha() -> str:
    """A challenge of ALTCHA before each row, in front of the pass-through."""
    return _part("altcha", _CHALLENGES)


def gate_instructions() -> str:
    """Instructions of a request in the application, by case."""
    result = read("benchmarks/gate_instructions")
    counts = result["instructions"].items()
    rows = [[name, f"{count / 1e6:.2f}", f"{result['puzzles'][name] / 1e6:.2f}"] for name, count in counts]
    return (
        table(["request", "million instructions", "of them of puzzles"], rows)
        + f"\n`{result['command']}`, Python {result['python']}\n"
    )


def _part(service: str, names: Mapping[str, str]) -> str:
    result = read("benchmarks/bench_gateway")
    measured = any(line["service"] == service for line in result["proxies"])
    return _beside(result, service, names) if measured else _NOT_MEASURED


def _beside(result: Any, service: str, names: Mapping[str, str]) -> str:
    """The proxies of a service, each beside the pass-through."""
    own = {(line["proxy"], line["connections"]): line for line in result["proxies"] if line["service"] == service}
    compared = {line["proxy"]: line for line in result["comparisons"] if line["service"] == service}
    one, many = min(connections for _, connections in own), max(connections for _, connections in own)
    rows = []
    for name in dict.fromkeys(name for name, _ in own):
        line = compared.get(name, {})
        rows.append(
            [
                names.get(name, name),
                f"{own[name, one]['p50_ms']:.2f} ms",
                _ratio(line, "p50_ratio"),
                f"{own[name, many]['cpu_ms']:.2f} ms",
                _ratio(line, "cpu_ratio"),
                f"{own[name, many]['per_second']:,}",
            ]
        )
    head = [
        "proxy",
        "median, one connection",
        "times the pass-through's",
        f"processor time, {many} connections",
        "times the pass-through's",
        "requests a second",
    ]
    return table(head, rows)


def _ratio(line: Mapping[str, Any], name: str) -> str:
    """A ratio with its range, and its target where there is one."""
    if name not in line:
        return _NONE
    target = line.get(f"{name}_target")
    return _times(line[name]) + (f", target {target:g}" if target else "")


def _times(spread: list[float]) -> str:
    middle, low, high = spread
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def _conditions(result: Mapping[str, Any]) -> str:
    load = f", on a machine with a load average of {result['load_average']}" if "load_average" in result else ""
    return f"`{result['command']}`{load}: medians, and in brackets the smallest and the largest of the repetitions.\n"


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
