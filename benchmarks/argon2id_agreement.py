"""Compares every native kernel of Argon2id with argon2-cffi, on random seeds, counters and memories.

    python benchmarks/argon2id_agreement.py --inputs 100000 --seed 1 --json results/benchmarks/argon2id_agreement.json

Ends with an error at the first value that differs.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import sys
from importlib.metadata import version
from pathlib import Path

from rich.progress import track

from modeltoll.puzzle.argon2id import Argon2id
from modeltoll.puzzle.native_argon2id import NativeArgon2id, argon2id_kernels

MEMORIES = (
    8,
    9,
    11,
    12,
    16,
    31,
    64,
    67,
    128,
    256,
    511,
    512,
    513,
    516,
    600,
)  # KiB, about one and several slices of addresses
EDGES = (0, 1, 2**32 - 1, 2**63, 2**64 - 2)


def main() -> None:
    """Compare, and write how much was compared."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--inputs", type=int, default=100_000)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--json", type=Path)
    given = options.parse_args()
    kernels = argon2id_kernels()
    if not kernels:
        sys.exit("no native kernel was built")
    rng = random.Random(given.seed)
    published = {memory: Argon2id(memory) for memory in MEMORIES}
    native = {(name, memory): NativeArgon2id(memory, name) for name in kernels for memory in MEMORIES}
    for _ in track(range(given.inputs), description="comparing", disable=not sys.stderr.isatty()):
        memory, seed = rng.choice(MEMORIES), rng.randbytes(16)
        n = rng.choice(EDGES) if rng.random() < 0.1 else rng.randrange(2**64 - 1)
        expected = published[memory].evaluate(seed, n)
        for name in kernels:
            if native[name, memory].search(seed, expected[:16], n, n + 1) != (n, expected):
                sys.exit(f"{name} differs: seed {seed.hex()}, counter {n}, {memory} KiB")
    result = {
        "command": f"python benchmarks/argon2id_agreement.py --inputs {given.inputs} --seed {given.seed}",
        "inputs": given.inputs,
        "kernels": kernels,
        "memories_kib": MEMORIES,
        "argon2_cffi": version("argon2-cffi"),
        "machine": platform.machine(),
        "different": 0,
    }
    if given.json:
        given.json.write_text(json.dumps(result, indent=2) + "\n")
    print(f"{given.inputs} values of {', '.join(kernels)} are those of argon2-cffi")


if __name__ == "__main__":
    main()
