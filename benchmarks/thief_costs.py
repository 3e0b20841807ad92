"""The advantage of a graphics card, and a thief's cost of a thousand rows: the tables of choosing-a-puzzle.

    python benchmarks/thief_costs.py [--row-seconds 5] [--json FILE]

The rates of the reference core are DEFAULT_PROFILE's; how many times as fast native kernels are is
results/benchmarks/bench_puzzle.json's, measured on one machine. Those of the graphics card are published and named in
``modeltoll.bench.hardware_costs``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from modeltoll.bench.hardware_costs import (
    CPU_CORE,
    EURO_PER_KWH,
    GPU,
    GPU_SHA256,
    gpu_argon2id,
    gpu_bounds,
    hardware_cost,
)
from modeltoll.puzzle.machine_profile import DEFAULT_PROFILE

MEASURED = Path(__file__).parents[1] / "results" / "benchmarks" / "bench_puzzle.json"
ROWS = 1000
RUNGS = (256, 8192, 32768, 65536, 131072, 262144)
PRICED_RUNGS = (256, 8192, 65536, 262144)
CARD_NAME = "RTX 4090"
KERNELS = ("avx512", "sha-ni", "avx2", "plain")
SHA256_RUN = {
    "run": "hashcat 6.2.6, mode 1400",
    "url": "https://gist.github.com/Chick3nman/32e662a5bb63bc4f51b847bb422222fd",
}
ARGON2ID_RUN = {"run": "hashcat, mode 34000", "url": "https://github.com/hashcat/hashcat/pull/4284"}


def gain(puzzle, card_rate, core_rate, source):
    """The card's rate in reference cores; rates are evaluations per second."""
    rates = {"card_per_second": round(card_rate), "core_per_second": core_rate}
    return {"puzzle": puzzle, **rates, "cores": round(card_rate / core_rate), **source}


def gains():
    """The card against the reference core, by puzzle; ``bound``: what its rate is derived from, None if published."""
    table = [gain("sha256, hashcash", GPU_SHA256, DEFAULT_PROFILE.sha256, {**SHA256_RUN, "bound": None})]
    for memory_kib in RUNGS:
        bounds = gpu_bounds(memory_kib)
        bound = min(bounds, key=bounds.get)
        source = {**ARGON2ID_RUN, "bound": bound}
        name = f"argon2id, {memory_kib / 1024:g} MiB"
        table.append(gain(name, bounds[bound], DEFAULT_PROFILE.rate(memory_kib), source))
    return table


def line(puzzle, name, speed, machine, row_seconds):
    """The cost of ``ROWS`` rows on a machine as fast as ``speed`` reference cores."""
    cost = hardware_cost(machine, ROWS * row_seconds / speed)
    return {
        "puzzle": puzzle,
        "machine": name,
        "reference_cores": float(f"{speed:.3g}"),
        "seconds": float(f"{cost.seconds:.3g}"),
        "joules": float(f"{cost.joules:.3g}"),
        "euro_electricity": float(f"{cost.joules / 3.6e6 * EURO_PER_KWH:.2g}"),
        "euro_rented": float(f"{cost.euros:.2g}"),
    }


def kernel_shares(measured):
    """How many times as fast as a plain install the fastest native kernels are: SHA-256's, and argon2id's by memory."""
    one = next(entry for entry in measured["sha256"] if entry["cores"] == 1)
    sha256 = max(one[name]["share"] for name in one if name in KERNELS)
    return sha256, {
        entry["memory_kib"]: entry["modeltoll"]["share"] for entry in measured["argon2id"] if entry["cores"] == 1
    }


def lines(row_seconds):
    """The table."""
    measured = json.loads(MEASURED.read_text())
    sha256, argon2id = kernel_shares(measured)
    squaring = measured["squarings"]["gmpy2"]["share"]
    core, card = (CPU_CORE, row_seconds), (GPU, row_seconds)
    table = [
        line("sha256, hashcash", "core, hashlib", 1.0, *core),
        line("sha256, hashcash", "core, native kernel", sha256, *core),
        line("sha256, hashcash", CARD_NAME, GPU_SHA256 / DEFAULT_PROFILE.sha256, *card),
        line("timelock", "core, gmpy2", squaring, *core),
    ]
    for memory_kib in PRICED_RUNGS:
        name = f"argon2id, {memory_kib / 1024:g} MiB"
        table.append(line(name, "core, argon2-cffi", 1.0, *core))
        table.append(line(name, "core, native kernel", argon2id[memory_kib], *core))
        table.append(line(name, CARD_NAME, gpu_argon2id(memory_kib) / DEFAULT_PROFILE.rate(memory_kib), *card))
    return table


def main():
    """Compute and print."""
    parser = argparse.ArgumentParser(
        description="The advantage of a graphics card, and a thief's cost of a thousand rows."
    )
    parser.add_argument("--row-seconds", type=float, default=5.0, help="price of a row in reference seconds")
    parser.add_argument("--json", metavar="FILE", help="also write the tables")
    arguments = parser.parse_args()
    tables = {"gains": gains(), "lines": lines(arguments.row_seconds)}
    for table in tables.values():
        for row in (table[0], *(row.values() for row in table)):
            print("| " + " | ".join(map(str, row)) + " |")
    if arguments.json:
        document = {"row_seconds": arguments.row_seconds, "profile": DEFAULT_PROFILE.name, "card": CARD_NAME, **tables}
        Path(arguments.json).write_text(json.dumps(document, indent=1) + "\n", encoding="ascii")


if __name__ == "__main__":
    main()
