"""Cost of making and solving puzzles: results/puzzle."""

from __future__ import annotations

from typing import Any

from modeltoll.formatting import number
from tables.form import read, table

__all__ = ["argon2id", "cards", "kernels", "making", "thief", "waits"]


def _measured() -> Any:
    return read("benchmarks/bench_puzzle")


def cards() -> str:
    """The number of reference cores that a graphics card replaces, by puzzle, with the source of its rate."""
    found = read("puzzle/thief_costs")
    rows = []
    for line in found["gains"]:
        derived = f", bound by its {line['bound']}" if line["bound"] else ""
        rates = [f"{line[name]:,.11g}" for name in ("card_per_second", "core_per_second", "cores")]
        rows.append([line["puzzle"], f"[{line['run']}]({line['url']}){derived}", *rates])
    card, core = f"{found['card']}, evaluations a second", f"a core of `{found['profile']}`"
    return table(["puzzle", "the card's rate is from", card, core, "cores that the card is worth"], rows, 2)


def thief() -> str:
    """The cost of a thousand rows for a thief, by puzzle and machine."""
    rows = [
        [line["puzzle"], line["machine"]]
        + [f"{line[name]:,g}" for name in ("seconds", "joules", "euro_electricity", "euro_rented")]
        for line in read("puzzle/thief_costs")["lines"]
    ]
    return table(["puzzle", "machine", "seconds", "joules", "EUR, electricity", "EUR, rented"], rows, 2)


def making() -> str:
    """The time that a toll takes on the server."""
    rows = [
        [line["puzzle"], f"{number(line['make_ms'])} ms", f"{number(line['check_ms'])} ms"]
        for line in _measured()["making"]
    ]
    return table(["puzzle", "making", "checking a redeemed token"], rows)


def kernels() -> str:
    """SHA-256 hidden counters on one core, by kernel."""
    one = next(line for line in _measured()["sha256"] if line["cores"] == 1)
    names = sorted((name for name in one if name != "cores"), key=lambda name: -one[name]["per_second"])
    rows = [[name, f"{one[name]['per_second'] / 1e6:.3g}", f"{one[name]['share']:.3g}"] for name in names]
    return table(["one core", "million evaluations a second", "against plain Python"], rows)


def argon2id() -> str:
    """Argon2id solvers as a share of bare argon2-cffi."""
    names = {
        "argon2-cffi": "bare argon2-cffi",
        "modeltoll": "modeltoll",
        "modeltoll, no kernel": "without its kernel",
        "argon2-cffi, -march=native": "argon2-cffi, `-march=native`",
        "altcha": "altcha",
    }
    rows = [
        [f"{line['memory_kib'] / 1024:g} MiB", str(line["cores"])]
        + [f"{line[name]['share']:.2f}" if name in line else "" for name in names]
        for line in _measured()["argon2id"]
    ]
    return table(["argon2id", "cores", *names.values()], rows)


def waits() -> str:
    """Variation of the work of puzzles with equal expected work."""
    rows = [
        [line["puzzle"], f"{line['evaluations_cv']:.2f}", f"{line['theory']:.2f}", f"{line['most_over_mean']:.2f}"]
        for line in _measured()["variation"]
    ]
    return table(
        ["1000 puzzles of equal work", "coefficient of variation", "in theory", "longest, in multiples of the mean"],
        rows,
    )
