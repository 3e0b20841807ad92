"""Search over SHA-256 and SHA-1 in pure Python, with the standard library alone.

Run as a program, this file is a helper process for another core: it answers each line
``digest seed least most start stop`` with the counter that it found, or -1. ``python -I -S`` runs it without a search path
to this package, so it imports nothing of it and handles hash functions, not puzzles. So it starts in about 20 ms, does not
run the caller's script again (as ``multiprocessing`` would), and ends with its standard input.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from hashlib import sha1, sha256

__all__ = ["DIGESTS", "MISS", "NOTHING", "main", "scan"]

DIGESTS = {"sha256": sha256, "sha1": sha1}
MISS = -1
NOTHING = "-"  # how the least digest of all, which is empty, is written in a line

_BLOCK = 256
_LAST = [bytes((value,)) for value in range(_BLOCK)]  # the last byte of a counter


def scan(digest: str, seed: bytes, least: bytes, most: bytes, start: int, stop: int) -> int:
    """The first counter in [start, stop) whose digest is ``least`` to ``most``, or -1. ``start`` is a multiple of 256.

    ``digest`` is the hash function's name in ``DIGESTS``; digests are compared as bytes.
    """
    function = DIGESTS[digest]
    for base in range(start, stop, _BLOCK):
        prefix = seed + (base >> 8).to_bytes(7, "big")
        for last in _LAST[: stop - base]:
            if least <= function(prefix + last).digest() <= most:  # a sixth faster than startswith
                return base + last[0]
    return MISS


def main() -> None:
    """Answer the lines of standard input until it ends. Interrupts are ignored; the parent then closes the input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(BrokenPipeError):  # the parent has ended
        for line in sys.stdin.buffer:
            digest, *limits, start, stop = line.decode("ascii").split()
            seed, least, most = (b"" if text == NOTHING else bytes.fromhex(text) for text in limits)
            found = scan(digest, seed, least, most, int(start), int(stop))
            os.write(sys.stdout.fileno(), b"%d\n" % found)


if __name__ == "__main__":
    main()
