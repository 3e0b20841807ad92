"""The memory of this machine, from which a purse takes the argon2id memory that it offers by default."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from modeltoll.wire import MAX_MEMORY_KIB

__all__ = ["available_kib", "default_memory_kib"]

_MODEST_KIB = 64 * 1024
_MIB = 1024
_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def available_kib(limits: Iterable[Path] = _CGROUP_LIMITS) -> int:
    """The machine's physical memory or the limit of its control group, whichever is less, in KiB; 0 if unknown.

    ``limits``: files that may hold a limit in bytes, of version 2 and of version 1.
    """
    found = []
    with suppress(ValueError, OSError, AttributeError):  # AttributeError: Windows
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for path in limits:
        with suppress(ValueError, OSError):  # ValueError: "max"
            found.append(int(path.read_text("ascii")))
    return max(min(found, default=0), 0) // 1024


def default_memory_kib(available: int, solvers: int) -> int:
    """The memory to offer, in KiB: 256 MiB if ``solvers`` at once take at most half of what is ``available``.

    Else 64 MiB, or less on a machine where one puzzle of 64 MiB would take more than a quarter of the memory. Where
    the memory is unknown, 64 MiB.
    """
    if MAX_MEMORY_KIB * solvers <= available // 2:
        return MAX_MEMORY_KIB
    if not available:
        return _MODEST_KIB
    return max(min(_MODEST_KIB, available // 4 // _MIB * _MIB), _MIB)
