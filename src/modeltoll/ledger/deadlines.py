"""Ends what takes too long: one timer of the event loop for all that may take equally long."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

__all__ = ["Deadlines"]

T = TypeVar("T")


class Deadlines(Generic[T]):
    """Calls ``late`` with each item whose future is not done ``seconds`` after it was added, in the order of adding.

    A timer for each item would take longer to set and to cancel than many steps of a ledger take.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float, late: Callable[[T], object]) -> None:
        self._loop = loop
        self._seconds = seconds
        self._late = late
        self._waiting: deque[tuple[float, asyncio.Future[Any], T]] = deque()  # the earliest deadline first
        self._is_set = False

    def add(self, future: asyncio.Future[Any], item: T) -> None:
        """Watch a future, from now on."""
        waiting = self._waiting
        while waiting and waiting[0][1].done():
            waiting.popleft()
        waiting.append((self._loop.time() + self._seconds, future, item))
        if not self._is_set:
            self._set()

    def _set(self) -> None:
        self._is_set = True
        self._loop.call_at(self._waiting[0][0], self._end)

    def _end(self) -> None:
        self._is_set = False
        now = self._loop.time()
        late = []
        while self._waiting and (self._waiting[0][1].done() or self._waiting[0][0] <= now):
            _, future, item = self._waiting.popleft()
            if not future.done():
                late.append(item)
        if self._waiting:
            self._set()
        for item in late:
            self._late(item)
