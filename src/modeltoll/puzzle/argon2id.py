"""Argon2id (RFC 9106), evaluated many times in one piece of memory.

The C library's malloc hands 32 MiB and more back to the system after every evaluation, and the next one takes it page
by page again: half of its time, and where two cores do it at once they wait for each other. Of less it keeps some for
each thread that ever evaluated, so that a server grows for hours. From a few MiB on we take the memory ourselves, in
large pages where the system has them, keep it from one evaluation to the next, and give all of it back.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from typing import Any

from argon2.exceptions import HashingError
from argon2.low_level import ARGON2_VERSION, Type, core, error_to_str, ffi

__all__ = ["LANES", "PASSES", "REUSED_KIB", "Argon2id"]

PASSES, LANES = 1, 1
REUSED_KIB = 2 * 1024  # a large page; taking less costs a third of an evaluation
_OK, _NO_MEMORY = 0, -22  # of argon2.h
_VALUE_BYTES, _COUNTER_BYTES, _SALT_BYTES = 32, 8, 16


class Argon2id:
    """Evaluations with ``memory_kib`` of memory, in one thread at a time. The memory goes when this object does.

    Raises:
        HashingError: the machine does not give the memory.
    """

    def __init__(self, memory_kib: int) -> None:
        self._out = ffi.new("uint8_t[]", _VALUE_BYTES)
        self._counter = ffi.new("uint8_t[]", _COUNTER_BYTES)
        self._salt = ffi.new("uint8_t[]", _SALT_BYTES)
        memory = _reusable_memory(memory_kib) if memory_kib >= REUSED_KIB else None
        self._memory = memory  # the context refers to what it holds
        self._context = ffi.new(
            "argon2_context *",
            {
                "version": ARGON2_VERSION,
                "out": self._out,
                "outlen": _VALUE_BYTES,
                "pwd": self._counter,
                "pwdlen": _COUNTER_BYTES,
                "salt": self._salt,
                "saltlen": _SALT_BYTES,
                "t_cost": PASSES,
                "m_cost": memory_kib,
                "lanes": LANES,
                "threads": LANES,
                "allocate_cbk": memory.allocate if memory else ffi.NULL,
                "free_cbk": memory.free if memory else ffi.NULL,
            },
        )

    def evaluate(self, seed: bytes, n: int) -> bytes:
        """Argon2id with password ``n`` (8 bytes, big-endian) and salt ``seed`` (16 bytes): 32 bytes.

        Raises:
            HashingError: the machine does not give the memory.
        """
        self._counter[0:_COUNTER_BYTES] = n.to_bytes(_COUNTER_BYTES, "big")
        self._salt[0:_SALT_BYTES] = seed
        error = core(self._context, Type.ID.value)
        if error != _OK:
            raise HashingError(error_to_str(error))
        return bytes(self._out)


@dataclass(frozen=True, slots=True)
class _MemoryArea:
    """Memory that is lent for each evaluation and never given back in between; the two are the C library's."""

    allocate: Any
    free: Any


def _reusable_memory(memory_kib: int) -> _MemoryArea | None:
    """Memory to keep, or None where the system forbids a library to make callbacks: then malloc's must do."""
    try:
        held = ffi.from_buffer("uint8_t[]", _map_memory(1024 * memory_kib))
    except OSError as error:
        raise HashingError(str(error)) from None

    def allocate(target: Any, size: int) -> int:
        if size > len(held):
            return _NO_MEMORY
        target[0] = held
        return _OK

    try:
        return _MemoryArea(
            ffi.callback("int(uint8_t **, size_t)", allocate),
            ffi.callback("void(uint8_t *, size_t)", lambda _memory, _size: None),
        )
    except MemoryError:
        return None


def _map_memory(size: int) -> mmap.mmap:
    if not hasattr(mmap, "MAP_PRIVATE"):  # not a Unix
        return mmap.mmap(-1, size)
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        pages.madvise(mmap.MADV_HUGEPAGE)
    return pages
