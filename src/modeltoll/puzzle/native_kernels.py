"""Search kernels for SHA-256: native ones, if the build found a C compiler, and pure Python everywhere.

Their source is ``kernel.c``; the build (``hatch_build.py``) puts its library beside this file. It is loaded on first
use.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from modeltoll.puzzle import hash_scan

if TYPE_CHECKING:
    import ctypes

__all__ = ["LIBRARY", "PYTHON", "Kernel", "Scan", "kernels"]

Scan: TypeAlias = Callable[[str, bytes, bytes, bytes, int, int], int]  # as hash_scan.scan

LIBRARY = Path(__file__).with_name("_kernel.so")
_VERSION = 1
_FASTEST_FIRST = {"avx512": 3, "sha-ni": 1, "avx2": 2, "plain": 0}  # name to number in kernel.c
_CHUNK, _PLAIN_CHUNK, _PYTHON_CHUNK = 1 << 16, 1 << 14, 1 << 12  # 1 to 3 ms at 60, 10 or 2 million hashes per second


@dataclass(frozen=True, slots=True)
class Kernel:
    """An implementation of the search. ``scan`` is as ``hash_scan.scan``.

    ``chunk``: counters per call, which bounds the time until it can be stopped. ``threads``: whether it releases the
    interpreter lock, so that threads run on several cores.
    """

    name: str
    scan: Scan
    chunk: int
    threads: bool


PYTHON = Kernel("python", hash_scan.scan, _PYTHON_CHUNK, threads=False)


@cache
def kernels(library: Path = LIBRARY) -> tuple[Kernel, ...]:
    """The kernels that this machine can run, the fastest first; the last is pure Python, the only one with SHA-1."""
    loaded = _load(library) if library.exists() else None
    if loaded is None:
        return (PYTHON,)
    runnable = (name for name, number in _FASTEST_FIRST.items() if loaded.modeltoll_runs(number))
    return (*(_compiled(loaded, name) for name in runnable), PYTHON)


def _load(path: Path) -> ctypes.CDLL | None:
    """The library, or None if it was built for another machine or another version of this file."""
    import ctypes  # noqa: PLC0415  slow to import, and rarely needed by clients

    try:
        library = ctypes.CDLL(str(path))
        if library.modeltoll_version() != _VERSION:
            return None
    except (OSError, AttributeError):
        return None
    types = [ctypes.c_int] * 2 + [ctypes.c_char_p] * 2 + [ctypes.c_uint64] * 2
    library.modeltoll_scan.argtypes, library.modeltoll_scan.restype = types, ctypes.c_int64
    return library


def _compiled(library: ctypes.CDLL, name: str) -> Kernel:
    number = _FASTEST_FIRST[name]

    def scan(digest: str, seed: bytes, least: bytes, most: bytes, start: int, stop: int) -> int:
        assert digest == "sha256", digest
        offset: int = library.modeltoll_scan(number, not least, seed, least or most, start, stop - start)
        return hash_scan.MISS if offset == hash_scan.MISS else start + offset

    return Kernel(name, scan, _PLAIN_CHUNK if name == "plain" else _CHUNK, threads=True)
