"""What a graphics card gains on each puzzle, and what a thief's thousand rows cost him: tables of choosing-a-puzzle.

    python benchmarks/thief_costs.py [--row-seconds 5] [--json FILE]

The rates of the reference core and of the kernels are DEFAULT_PROFILE's and results/benchmarks/bench_puzzle.json's; those
of the graphics card are published and named below.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from modeltoll.pricing.reference import DEFAULT_PROFILE

MEASURED = Path(__file__).parents[1] / "results" / "benchmarks" / "bench_puzzle.json"
ROWS = 1000

# Assumptions, to be replaced by your own.
EURO_PER_KWH = 0.19  # EU average for non-household consumers, first half of 2025 (Eurostat, nrg_pc_205)
CORE_WATTS, CORE_EURO_PER_HOUR = 10.0, 0.02  # a busy server core with its share of memory and cooling; rented
CARD_WATTS, CARD_EURO_PER_HOUR = 450.0, 0.40  # an RTX 4090 at its board power; rented

# Published rates of one RTX 4090.
CARD = "RTX 4090"
CARD_SHA256 = 21_975.5e6  # hashes a second
CARD_SHA256_RUN = {
    "run": "hashcat 6.2.6, mode 1400",
    "url": "https://gist.github.com/Chick3nman/32e662a5bb63bc4f51b847bb422222fd",
}
CARD_ARGON2ID = 1667.0  # of 64 MiB, 3 passes, 1 lane
CARD_ARGON2ID_RUN = {"run": "hashcat, mode 34000", "url": "https://github.com/hashcat/hashcat/pull/4284"}
CARD_MEMORY_KIB = 23 << 20  # of 24 GiB, what a run can use
# Blocks that t passes read and write: 3t - 1 times the memory (tobtu.com/minimum-password-settings).
THREE_PASSES, ONE_PASS = 8, 2


RUNGS = (256, 8192, 32768, 65536, 131072, 262144)
PRICED_RUNGS = (256, 8192, 65536, 262144)


def card_argon2id(memory_kib):
    """Evaluations per second of one pass and what bounds them: the card's bandwidth, or how many puzzles fit into it.

    A step over one block of 1 KiB takes what it took in the published run, where the card was full.
    """
    bandwidth = CARD_ARGON2ID * THREE_PASSES / ONE_PASS * 65536 / memory_kib
    step = CARD_MEMORY_KIB / 65536 / CARD_ARGON2ID / (3 * 65536)
    fitting = CARD_MEMORY_KIB / memory_kib / (step * memory_kib)
    return min((bandwidth, "bandwidth"), (fitting, "memory"))


def gain(puzzle, card_rate, core_rate, source):
    """How many reference cores the card is worth; rates are evaluations a second."""
    rates = {"card_per_second": round(card_rate), "core_per_second": core_rate}
    return {"puzzle": puzzle, **rates, "cores": round(card_rate / core_rate), **source}


def gains():
    """The card against the reference core, by puzzle; ``bound`` says what its rate is derived from, None if published."""
    table = [gain("sha256, hashcash", CARD_SHA256, DEFAULT_PROFILE.sha256, {**CARD_SHA256_RUN, "bound": None})]
    for memory_kib in RUNGS:
        rate, bound = card_argon2id(memory_kib)
        source = {**CARD_ARGON2ID_RUN, "bound": bound}
        table.append(gain(f"argon2id, {memory_kib / 1024:g} MiB", rate, DEFAULT_PROFILE.rate(memory_kib), source))
    return table


def line(puzzle, machine, speed, watts, euro_per_hour, row_seconds):
    """What ``ROWS`` rows take on a machine that does ``speed`` reference cores' work."""
    seconds = ROWS * row_seconds / speed
    joules = seconds * watts
    return {
        "puzzle": puzzle,
        "machine": machine,
        "reference_cores": float(f"{speed:.3g}"),
        "seconds": float(f"{seconds:.3g}"),
        "joules": float(f"{joules:.3g}"),
        "euro_electricity": float(f"{joules / 3.6e6 * EURO_PER_KWH:.2g}"),
        "euro_rented": float(f"{seconds / 3600 * euro_per_hour:.2g}"),
    }


def lines(row_seconds):
    """The table."""
    measured = json.loads(MEASURED.read_text())
    kernel = measured["sha256"][0]["avx512"]["per_second"]
    squaring = measured["squarings"]["gmpy2"]["per_second"]
    core, card = (CORE_WATTS, CORE_EURO_PER_HOUR, row_seconds), (CARD_WATTS, CARD_EURO_PER_HOUR, row_seconds)
    table = [
        line("sha256, hashcash", "core, hashlib", 1.0, *core),
        line("sha256, hashcash", "core, AVX-512 kernel", kernel / DEFAULT_PROFILE.sha256, *core),
        line("sha256, hashcash", CARD, CARD_SHA256 / DEFAULT_PROFILE.sha256, *card),
        line("timelock", "core, gmpy2", squaring / DEFAULT_PROFILE.squarings, *core),
    ]
    for memory_kib in PRICED_RUNGS:
        name, (rate, _) = f"argon2id, {memory_kib / 1024:g} MiB", card_argon2id(memory_kib)
        table.append(line(name, "core", 1.0, *core))
        table.append(line(name, CARD, rate / DEFAULT_PROFILE.rate(memory_kib), *card))
    return table


def main():
    """Compute and print."""
    parser = argparse.ArgumentParser(description="What a graphics card gains, and what a thief's thousand rows cost.")
    parser.add_argument("--row-seconds", type=float, default=5.0, help="reference seconds that one row costs")
    parser.add_argument("--json", metavar="FILE", help="also write the tables")
    given = parser.parse_args()
    tables = {"gains": gains(), "lines": lines(given.row_seconds)}
    for table in tables.values():
        for row in (table[0], *(row.values() for row in table)):
            print("| " + " | ".join(map(str, row)) + " |")
    if given.json:
        document = {"row_seconds": given.row_seconds, "profile": DEFAULT_PROFILE.name, "card": CARD, **tables}
        Path(given.json).write_text(json.dumps(document, indent=1) + "\n", encoding="ascii")


if __name__ == "__main__":
    main()
