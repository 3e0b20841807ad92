"""Pack the counts of evidence into bytes: each list of counts with the width, 1 to 8 bytes, that its largest needs."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from modeltoll.evidence_records import RESTART_ROWS, FinishedBlock

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["pack_blocks", "pack_counts", "pack_finished", "unpack_blocks", "unpack_counts", "unpack_finished"]

_CODES = {2: "H", 4: "I", 8: "Q"}  # of ``struct``, by width in bytes
_RESTARTS = len(RESTART_ROWS)


def pack_counts(counts: Sequence[int]) -> bytes:
    """A byte with the width, then each count, little-endian."""
    try:
        return b"\x01" + bytes(counts)  # the common case takes a third of the time of what follows
    except ValueError:
        largest = max(counts)
    width = 2 if largest < 2**16 else 4 if largest < 2**32 else 8
    return struct.pack(f"<B{len(counts)}{_CODES[width]}", width, *counts)


def unpack_counts(packed: bytes) -> tuple[int, ...]:
    """The counts that ``pack_counts`` packed; none of an empty text."""
    return _unpack(packed, (len(packed) - 1) // packed[0], 0)[0] if packed else ()


def pack_blocks(numbers: Sequence[int], blocks: Sequence[Sequence[int]]) -> bytes:
    """The numbers of the current blocks, then the counts of each."""
    return b"".join(map(pack_counts, (numbers, *blocks)))


def unpack_blocks(packed: bytes, cells: int) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]:
    """The numbers of the current blocks, and their counts."""
    numbers, place = _unpack(packed, _RESTARTS, 0)
    blocks = []
    for _ in range(_RESTARTS):
        block, place = _unpack(packed, cells, place)
        blocks.append(block)
    return numbers, tuple(blocks)


def pack_finished(finished: Sequence[FinishedBlock | None]) -> bytes:
    """For each block that waits in a slot: a byte with the index of its restart, its number, its counts."""
    return b"".join(
        bytes((restart,)) + pack_counts((block.number,)) + pack_counts(block.counts)
        for restart, block in enumerate(finished)
        if block is not None
    )


def unpack_finished(packed: bytes, cells: int) -> tuple[FinishedBlock | None, ...]:
    """The slots; None for those that are empty."""
    finished: list[FinishedBlock | None] = [None] * _RESTARTS
    place = 0
    while place < len(packed):
        restart = packed[place]
        (number,), place = _unpack(packed, 1, place + 1)
        counts, place = _unpack(packed, cells, place)
        finished[restart] = FinishedBlock(number, counts)
    return tuple(finished)


def _unpack(packed: bytes, length: int, start: int) -> tuple[tuple[int, ...], int]:
    """``length`` counts that begin at ``start``, and where they end."""
    width = packed[start]
    end = start + 1 + length * width
    if width == 1:
        return tuple(packed[start + 1 : end]), end
    return struct.unpack_from(f"<{length}{_CODES[width]}", packed, start + 1), end
