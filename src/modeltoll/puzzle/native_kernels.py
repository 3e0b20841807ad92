"""SHA-256 searches compiled for this processor, where the install found a compiler; plain Python everywhere.

``kernel.c`` holds them, and the build (``hatch_build.py``) puts its library beside this file. Nothing is loaded before
it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from modeltoll.puzzle import hash_scan

if TYPE_CHECKING:
    import ctypes

__all__ = ["LIBRARY", "PYTHON", "Kernel", "kernels"]

LIBRARY = Path(__file__).with_name("_kernel.so")
_VERSION = 1
_FASTEST_FIRST = {"avx512": 3, "sha-ni": 1, "avx2": 2, "plain": 0}  # with kernel.c's numbers
_CHUNK, _PLAIN_CHUNK, _PYTHON_CHUNK = 1 << 16, 1 << 14, 1 << 12  # 1 to 3 ms on a core that does 60, 10 or 2 M/s


@dataclass(frozen=True, slots=True)
class Kernel:
    """A way to search: ``scan`` as ``hash_scan.scan``, over at most ``chunk`` counters at a time, else it cannot be stopped.

    ``threads`` says whether it lets go of the interpreter lock, so that threads can use several cores.
    """

    name: str
    scan: Callable[[str, bytes, bytes, int, int], int]
    chunk: int
    threads: bool


PYTHON = Kernel("python", hash_scan.scan, _PYTHON_CHUNK, threads=False)


@cache
def kernels(library: Path = LIBRARY) -> tuple[Kernel, ...]:
    """The kernels that run here, the fastest first; the last is always plain Python, which alone knows SHA-1."""
    loaded = _load(library) if library.exists() else None
    if loaded is None:
        return (PYTHON,)
    here = (name for name, number in _FASTEST_FIRST.items() if loaded.modeltoll_runs(number))
    return (*(_compiled(loaded, name) for name in here), PYTHON)


def _load(path: Path) -> ctypes.CDLL | None:
    """The library, or None where it was made for another machine or another version of this file."""
    import ctypes  # noqa: PLC0415  it takes longer to import than most clients ever need it

    try:
        library = ctypes.CDLL(str(path))
        if library.modeltoll_version() != _VERSION:
            return None
    except (OSError, AttributeError):
        return None
    numbers = [ctypes.c_int] * 2 + [ctypes.c_char_p] * 2 + [ctypes.c_uint64] * 2
    library.modeltoll_scan.argtypes, library.modeltoll_scan.restype = numbers, ctypes.c_int64
    return library


def _compiled(library: ctypes.CDLL, name: str) -> Kernel:
    number = _FASTEST_FIRST[name]

    def search(puzzle: str, seed: bytes, goal: bytes, start: int, stop: int) -> int:
        far: int = library.modeltoll_scan(number, puzzle == hash_scan.HASHCASH, seed, goal, start, stop - start)
        return hash_scan.MISS if far == hash_scan.MISS else start + far

    return Kernel(name, search, _PLAIN_CHUNK if name == "plain" else _CHUNK, threads=True)
