"""Search over SHA-256 and SHA-1 in pure Python, with the standard library alone.

Run as a program, this file is a helper process for another core: it answers each line ``puzzle seed goal start stop``
with the counter that it found, or -1. It imports nothing of the package. So it starts in about 20 ms, does not run the
caller's script again (as ``multiprocessing`` would), and ends with its standard input.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from hashlib import sha1, sha256

__all__ = ["CHECK_BYTES", "DIGESTS", "HASHCASH", "HASHCASH_SHA1", "MISS", "SHA256", "main", "scan"]

SHA256, HASHCASH, HASHCASH_SHA1 = "sha256", "hashcash", "hashcash-sha1"
DIGESTS = {SHA256: sha256, HASHCASH: sha256, HASHCASH_SHA1: sha1}
CHECK_BYTES = 16
MISS = -1

_FULL = b"\xff" * 16
_BLOCK = 256
_LAST = [bytes((value,)) for value in range(_BLOCK)]  # the last byte of a counter


def scan(puzzle: str, seed: bytes, goal: bytes, start: int, stop: int) -> int:
    """The first counter in [start, stop) that meets the goal, or -1. ``start`` is a multiple of 256.

    ``goal``: for a hidden counter the published check of 16 bytes, for hashcash the largest valid digest.
    """
    digest = DIGESTS[puzzle]
    least, most = (goal, goal + _FULL) if puzzle == SHA256 else (b"", goal)
    for base in range(start, stop, _BLOCK):
        prefix = seed + (base >> 8).to_bytes(7, "big")
        for last in _LAST[: stop - base]:
            if least <= digest(prefix + last).digest() <= most:  # a sixth faster than startswith
                return base + last[0]
    return MISS


def main() -> None:
    """Answer the lines of standard input until it ends. Interrupts are ignored; the parent then closes the input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(BrokenPipeError):  # the parent has ended
        for line in sys.stdin.buffer:
            puzzle, seed, goal, start, stop = line.decode("ascii").split()
            found = scan(puzzle, bytes.fromhex(seed), bytes.fromhex(goal), int(start), int(stop))
            os.write(sys.stdout.fileno(), b"%d\n" % found)


if __name__ == "__main__":
    main()
