"""The memory and the cores of this machine, from which follows the argon2id memory that a purse offers by default."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from modeltoll.wire import MAX_MEMORY_KIB

__all__ = ["available_kib", "default_memory_kib", "usable_cores"]

_MODEST_KIB = 64 * 1024
_MIB = 1024
_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_CGROUP_CORES = Path("/sys/fs/cgroup/cpu.max")


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


def usable_cores(limit: Path = _CGROUP_CORES) -> int:
    """The cores that this process may use, at least 1: those of its affinity, and no more than its control group has.

    ``limit``: a file that may hold a limit of version 2, microseconds of all cores and of the clock: ``200000 100000``.
    """
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        cores = os.cpu_count() or 1
    with suppress(ValueError, OSError, ZeroDivisionError):  # ValueError: "max 100000"
        used, period = map(int, limit.read_text("ascii").split())
        cores = min(cores, math.ceil(used / period))
    return max(cores, 1)


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
