"""Checks an installed wheel, outside of the source tree: whether the native kernels load and find what plain Python and argon2-cffi find.

    python deploy/check_wheel.py [--pure]

With ``--pure`` there must be none. Ends with an error where the wheel is not what it was built to be.
"""

from __future__ import annotations

import sys
from pathlib import Path

import modeltoll
from modeltoll.puzzle.argon2id import Argon2id
from modeltoll.puzzle.functions import check_of, evaluate
from modeltoll.puzzle.native_argon2id import NativeArgon2id, argon2id_kernels
from modeltoll.puzzle.native_kernels import LIBRARY, PYTHON, kernels

SOURCE = Path(__file__).resolve().parents[1] / "src"
SEED, COUNTER, RANGE = bytes(range(16)), 70_000, 100_000
MEMORY_KIB = 600


def main() -> None:
    """Say which kernels run here."""
    pure = sys.argv[1:] == ["--pure"]
    if SOURCE in Path(modeltoll.__file__).resolve().parents:
        sys.exit("modeltoll is imported from the source tree; run this where the wheel is installed")
    found = kernels()
    if pure and LIBRARY.exists():
        sys.exit(f"a pure wheel has a library: {LIBRARY}")
    if not pure and found[0] is PYTHON:
        sys.exit(f"no native kernel loads: {LIBRARY} {'does not load' if LIBRARY.exists() else 'is missing'}")
    goal = check_of(evaluate(SEED, COUNTER, 0))
    for kernel in found:
        if kernel.scan("sha256", SEED, goal, 0, RANGE) != COUNTER:
            sys.exit(f"the kernel {kernel.name} does not find the counter {COUNTER}")
    argon2id = argon2id_kernels()
    if pure == bool(argon2id):
        sys.exit(f"kernels of Argon2id that load: {', '.join(argon2id) or 'none'}")
    for name in argon2id:
        if NativeArgon2id(MEMORY_KIB, name).evaluate(SEED, COUNTER) != Argon2id(MEMORY_KIB).evaluate(SEED, COUNTER):
            sys.exit(f"the kernel {name} of Argon2id does not give argon2-cffi's value")
    names = f"SHA-256: {', '.join(k.name for k in found)}; argon2id: {', '.join(argon2id) or 'argon2-cffi'}"
    print(f"modeltoll {modeltoll.__version__} at {Path(modeltoll.__file__).parent}: {names}")


if __name__ == "__main__":
    main()
