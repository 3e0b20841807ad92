"""When the caller of a request stops waiting, so that a model server may be told."""

from __future__ import annotations

import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["caller_waits", "seconds_left"]

_deadline: ContextVar[float | None] = ContextVar("modeltoll_caller_deadline", default=None)


@contextmanager
def caller_waits(seconds: float | None) -> Iterator[None]:
    """While the block lasts, the caller waits for so many more seconds; None: for ever."""
    token = _deadline.set(None if seconds is None else time.monotonic() + seconds)
    try:
        yield
    finally:
        _deadline.reset(token)


def seconds_left(most: float) -> float:
    """How long the caller still waits, at most ``most`` seconds."""
    deadline = _deadline.get()
    return most if deadline is None else max(0.0, min(most, deadline - time.monotonic()))
