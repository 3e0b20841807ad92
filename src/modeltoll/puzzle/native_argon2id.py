"""Argon2id by the native kernels, if the build found a C compiler; the same values as argon2-cffi's.

Their source is ``argon2id_kernel.c``; they are in the library of ``native_kernels``.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from argon2.exceptions import HashingError

from modeltoll.puzzle.argon2id import REUSED_KIB, map_memory
from modeltoll.puzzle.native_kernels import LIBRARY, load_library

if TYPE_CHECKING:
    import ctypes
    import mmap
    from pathlib import Path

__all__ = ["NativeArgon2id", "argon2id_kernels"]

_FASTEST_FIRST = {"avx512": 2, "avx2": 1, "plain": 0}  # name to number in argon2id_kernel.c; NEON is plain on ARM
_PAIRED_KIB = 1024  # up to this memory two counters at once are faster
_LINE_BYTES = 64  # of the processor's cache
_VALUE_BYTES, _COUNTERS = 32, 2**64


@cache
def argon2id_kernels(library: Path = LIBRARY) -> tuple[str, ...]:
    """The names of the kernels that this machine can run, the fastest first; () where none was built."""
    loaded = load_library(library)
    if loaded is None:
        return ()
    return tuple(name for name, number in _FASTEST_FIRST.items() if loaded.modeltoll_argon2id_runs(number))


class NativeArgon2id:
    """Evaluates Argon2id with ``memory_kib`` KiB, in one thread at a time, without the interpreter lock.

    The memory is reused for each evaluation, and freed with this object. ``kernel``: one of ``argon2id_kernels``. ``paired``: a
    search evaluates two counters at once where that is faster, in twice the memory.

    Raises:
        HashingError: the memory cannot be allocated.
    """

    def __init__(self, memory_kib: int, kernel: str, library: Path = LIBRARY, *, paired: bool = True) -> None:
        import ctypes  # noqa: PLC0415  slow to import, and rarely needed by clients

        loaded = load_library(library)
        assert loaded is not None  # there are kernels
        self._scan = loaded.modeltoll_argon2id_scan
        self._kernel = _FASTEST_FIRST[kernel]
        self._memory_kib = memory_kib
        self._ways = 2 if paired and memory_kib <= _PAIRED_KIB else 1
        try:
            pages = _allocate(self._ways * memory_kib)
        except (OSError, MemoryError) as error:
            raise HashingError(str(error)) from None
        self._memory: ctypes.Array[ctypes.c_char] = (ctypes.c_char * len(pages)).from_buffer(pages)
        self._address = -(-ctypes.addressof(self._memory) // _LINE_BYTES) * _LINE_BYTES
        self._value = ctypes.create_string_buffer(_VALUE_BYTES)

    def evaluate(self, seed: bytes, n: int) -> bytes:
        """See ``Argon2id.evaluate``."""
        self._run(seed, None, n, 1)
        return self._value.raw

    def search(self, seed: bytes, check: bytes, start: int, stop: int) -> tuple[int, bytes] | None:
        """See ``Argon2id.search``."""
        offset = self._run(seed, check, start, stop - start)
        return None if offset < 0 else (start + offset, self._value.raw)

    def _run(self, seed: bytes, check: bytes | None, start: int, count: int) -> int:
        if not 0 <= start <= _COUNTERS - count:  # ctypes would take it modulo 2^64
            raise OverflowError("a counter has 8 bytes")
        offset: int = self._scan(
            self._kernel, self._ways, self._address, self._memory_kib, seed, check, start, count, self._value
        )
        return offset


def _allocate(memory_kib: int) -> bytearray | mmap.mmap:
    size = 1024 * memory_kib
    return bytearray(size + _LINE_BYTES) if memory_kib < REUSED_KIB else map_memory(size)
