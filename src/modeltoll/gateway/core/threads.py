"""Runs long computations in a thread, so that the event loop stays free for other callers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

__all__ = ["LARGE_BYTES", "LARGE_ROWS", "off_loop"]

P = ParamSpec("P")
R = TypeVar("R")

# Larger bodies and batches take longer to parse, measure or seal than a switch to another thread (about 0.1 ms).
LARGE_BYTES = 64 * 1024
LARGE_ROWS = 64


async def off_loop(large: bool, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a function: in another thread where ``large``, else directly."""
    if large:
        return await asyncio.to_thread(function, *args, **kwargs)
    return function(*args, **kwargs)
