"""Search kernels for SHA-256: native ones, if the build found a C compiler, and pure Python everywhere.

Their source is ``kernel.c``; the build (``hatch_build.py``) puts their library beside this file, with the kernels of
``native_argon2id``. It is loaded on first use.
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

__all__ = ["LIBRARY", "PYTHON", "Kernel", "Scan", "kernels", "load_library"]

Scan: TypeAlias = Callable[[str, bytes, bytes, bytes, int, int], int]  # as hash_scan.scan

LIBRARY = Path(__file__).with_name("_kernel.so")
_VERSION = 2
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
    loaded = load_library(library)
    if loaded is None:
        return (PYTHON,)
    runnable = (name for name, number in _FASTEST_FIRST.items() if loaded.modeltoll_runs(number))
    return (*(_compiled(loaded, name) for name in runnable), PYTHON)


@cache
def load_library(path: Path = LIBRARY) -> ctypes.CDLL | None:
    """The library, or None if there is none, or it was built for another machine or another version of this file."""
    if not path.exists():
        return None
    import ctypes  # noqa: PLC0415  slow to import, and rarely needed by clients

    try:
        library = ctypes.CDLL(str(path))
        if library.modeltoll_version() != _VERSION:
            return None
        scan, argon2id_scan = library.modeltoll_scan, library.modeltoll_argon2id_scan
    except (OSError, AttributeError):
        return None
    number, size, text = ctypes.c_int, ctypes.c_uint64, ctypes.c_char_p
    scan.argtypes, scan.restype = [number] * 2 + [text] * 2 + [size] * 2, ctypes.c_int64
    argon2id_scan.argtypes = [number, number, ctypes.c_void_p, ctypes.c_uint32, text, text, size, size, text]
    argon2id_scan.restype = ctypes.c_int64
    return library


def _compiled(library: ctypes.CDLL, name: str) -> Kernel:
    number = _FASTEST_FIRST[name]

    def scan(digest: str, seed: bytes, least: bytes, most: bytes, start: int, stop: int) -> int:
        assert digest == "sha256", digest
        offset: int = library.modeltoll_scan(number, not least, seed, least or most, start, stop - start)
        return hash_scan.MISS if offset == hash_scan.MISS else start + offset

    return Kernel(name, scan, _PLAIN_CHUNK if name == "plain" else _CHUNK, threads=True)
