"""Argon2id (RFC 9106) by argon2-cffi, evaluated many times with the same memory.

The C library's malloc returns blocks of 32 MiB and more to the system after every evaluation, and the next one faults
them in page by page: this takes half of the time, and threads on several cores block each other. Of smaller blocks it
keeps some for each thread that ever evaluated, so that a server's memory grows for hours. From 2 MiB on this module
maps the memory itself, in huge pages if available, reuses it for each evaluation, and returns all of it.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from typing import Any

from argon2.exceptions import HashingError
from argon2.low_level import ARGON2_VERSION, Type, core, error_to_str, ffi

__all__ = ["LANES", "PASSES", "REUSED_KIB", "Argon2id", "map_memory"]

PASSES, LANES = 1, 1
REUSED_KIB = 2 * 1024  # a huge page; mapping less memory would add a third to an evaluation
_OK, _NO_MEMORY = 0, -22  # of argon2.h
_VALUE_BYTES, _COUNTER_BYTES, _SALT_BYTES = 32, 8, 16


class Argon2id:
    """Evaluates Argon2id with ``memory_kib`` KiB, in one thread at a time. The memory is freed with this object.

    Raises:
        HashingError: the memory cannot be allocated.
    """

    def __init__(self, memory_kib: int) -> None:
        self._out = ffi.new("uint8_t[]", _VALUE_BYTES)
        self._counter = ffi.new("uint8_t[]", _COUNTER_BYTES)
        self._salt = ffi.new("uint8_t[]", _SALT_BYTES)
        memory = _reusable_memory(memory_kib) if memory_kib >= REUSED_KIB else None
        self._memory = memory  # referenced, because the context points into it
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
        """Argon2id of the password ``n`` (8 bytes, big-endian) with the salt ``seed`` (16 bytes): 32 bytes.

        Raises:
            HashingError: the memory cannot be allocated.
        """
        self._counter[0:_COUNTER_BYTES] = n.to_bytes(_COUNTER_BYTES, "big")
        self._salt[0:_SALT_BYTES] = seed
        error = core(self._context, Type.ID.value)
        if error != _OK:
            raise HashingError(error_to_str(error))
        return bytes(self._out)

    def search(self, seed: bytes, check: bytes, start: int, stop: int) -> tuple[int, bytes] | None:
        """The first counter from ``start`` to below ``stop`` whose value begins with ``check``, and its value.

        Raises:
            HashingError: the memory cannot be allocated.
        """
        for n in range(start, stop):
            value = self.evaluate(seed, n)
            if value.startswith(check):
                return n, value
        return None


@dataclass(frozen=True, slots=True)
class _MemoryArea:
    """Callbacks for argon2: ``allocate`` returns the same memory for each evaluation, ``free`` does nothing."""

    allocate: Any
    free: Any


def _reusable_memory(memory_kib: int) -> _MemoryArea | None:
    """Reusable memory, or None if the system forbids the creation of callbacks; malloc is used then."""
    try:
        area = ffi.from_buffer("uint8_t[]", map_memory(1024 * memory_kib))
    except OSError as error:
        raise HashingError(str(error)) from None

    def allocate(target: Any, size: int) -> int:
        if size > len(area):
            return _NO_MEMORY
        target[0] = area
        return _OK

    try:
        return _MemoryArea(
            ffi.callback("int(uint8_t **, size_t)", allocate),
            ffi.callback("void(uint8_t *, size_t)", lambda _memory, _size: None),
        )
    except MemoryError:
        return None


def map_memory(size: int) -> mmap.mmap:
    """Zeroed memory of ``size`` bytes, in huge pages if available.

    Raises:
        OSError: it cannot be allocated.
    """
    if not hasattr(mmap, "MAP_PRIVATE"):  # not a Unix
        return mmap.mmap(-1, size)
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        pages.madvise(mmap.MADV_HUGEPAGE)
    return pages
