"""Time short work in this process."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["least_microseconds"]

_AT_LEAST = 0.01  # seconds of one repeat; shorter work is repeated within it


def least_microseconds(
    work: Callable[[], object], repeats: int, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Minimum of the microseconds of one call over the repeats, after a warm-up; other load only adds to it."""
    work()
    begin = clock()
    work()
    inner = max(1, int(_AT_LEAST / max(clock() - begin, 1e-7)))
    times = []
    for _ in range(repeats):
        begin = clock()
        for _ in range(inner):
            work()
        times.append((clock() - begin) / inner)
    return min(times) * 1e6
