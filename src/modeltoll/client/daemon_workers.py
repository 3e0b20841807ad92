"""Threads for work that nobody waits for: at most so many at once, and none that keeps Python from exiting."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from modeltoll.client.forks import ForkSafeLock

__all__ = ["DaemonWorkers"]


class DaemonWorkers:
    """Runs functions in daemon threads, first come first served. A thread ends when nothing is left to do."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = ForkSafeLock(self._forget_all)
        self._waiting: deque[Callable[[], None]] = deque()
        self._running = 0

    def submit(self, work: Callable[[], None]) -> None:
        """Run ``work``, which must not raise, now or when a thread is free.

        Raises:
            RuntimeError: no thread runs, and none can be started now.
        """
        with self._lock:
            self._waiting.append(work)
            if self._running == self._limit:
                return
            self._running += 1
        try:
            threading.Thread(target=self._run, name="modeltoll-toll", daemon=True).start()
        except RuntimeError:
            with self._lock:
                self._running -= 1
                if not self._running:
                    self._waiting.remove(work)
                    raise

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._running -= 1
                    return
                work = self._waiting.popleft()
            work()

    def _forget_all(self) -> None:
        """In a forked process, where the threads and their work are the parent's."""
        self._waiting, self._running = deque(), 0
