"""Runs long computations in a thread, so that the event loop stays free for other callers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import cache, partial
from typing import ParamSpec, TypeVar

__all__ = ["HUGE_BYTES", "LARGE_BYTES", "LARGE_ROWS", "off_loop", "off_loop_by_size"]

P = ParamSpec("P")
R = TypeVar("R")

# Larger bodies and batches take longer to parse, measure or seal than a switch to another thread (about 0.1 ms).
LARGE_BYTES = 64 * 1024
LARGE_ROWS = 64
# Larger bodies become objects of many times their size, and hold the interpreter for long: one is worked on at a time.
HUGE_BYTES = 1 << 20


async def off_loop(large: bool, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a function: in another thread where ``large``, else directly."""
    if large:
        return await asyncio.to_thread(function, *args, **kwargs)
    return function(*args, **kwargs)


async def off_loop_by_size(size: int, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a function that reads or makes ``size`` bytes.

    It is called directly for few bytes, in another thread for many, and for more than ``HUGE_BYTES`` one after the other, in
    the order of their arrival, so that all of them never need more memory than one of them does.
    """
    if size <= HUGE_BYTES:
        return await off_loop(size > LARGE_BYTES, function, *args, **kwargs)
    call = partial(copy_context().run, partial(function, *args, **kwargs))
    return await asyncio.get_running_loop().run_in_executor(_huge_bodies(), call)


@cache
def _huge_bodies() -> ThreadPoolExecutor:
    """The thread that works on huge bodies."""
    return ThreadPoolExecutor(1, thread_name_prefix="modeltoll-huge-bodies")
