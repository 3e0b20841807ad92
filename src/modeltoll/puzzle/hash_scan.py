"""The tight loops over SHA-256, in the standard library alone.

Run as a program, this file is a helper on a further core: it answers each line ``digest seed least most start stop``
with the counter that it found, or -1. ``python -I -S`` runs it without a search path to this package, so it imports
nothing of the package and knows hash functions, not puzzles. It starts in some 20 ms whatever the package needs, never runs the caller's script again (as ``multiprocessing`` would), and ends when its standard input does.
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

    ``digest`` is the hash function's name in ``DIGESTS``; digests compare as bytes do.
    """
    function = DIGESTS[digest]
    for base in range(start, stop, _BLOCK):
        prefix = seed + (base >> 8).to_bytes(7, "big")
        for last in _LAST[: stop - base]:
            if least <= function(prefix + last).digest() <= most:  # a sixth faster than startswith
                return base + last[0]
    return MISS


def main() -> None:
    """Serve standard input until it ends. An interrupt is the parent's business, who then closes the input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(BrokenPipeError):  # the parent is gone
        for line in sys.stdin.buffer:
            digest, *limits, start, stop = line.decode("ascii").split()
            seed, least, most = (b"" if text == NOTHING else bytes.fromhex(text) for text in limits)
            found = scan(digest, seed, least, most, int(start), int(stop))
            os.write(sys.stdout.fileno(), b"%d\n" % found)


if __name__ == "__main__":
    main()
