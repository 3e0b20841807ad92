"""Locks that survive a fork.

A forked process has one thread. A lock that another thread of its parent held would never be released there, and what the
threads of the parent were doing is done in the parent only.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from types import TracebackType
from weakref import WeakSet

__all__ = ["ForkSafeLock"]


class ForkSafeLock:
    """A lock, which is free in a forked process; there ``forked`` is called before it can be taken."""

    def __init__(self, forked: Callable[[], None] = lambda: None) -> None:
        self._lock = threading.Lock()
        self._forked = forked
        if not _locks and hasattr(os, "register_at_fork"):
            _register_once()
        _locks.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()

    def renew(self) -> None:
        """In a forked process, before any thread takes the lock."""
        self._lock = threading.Lock()
        self._forked()


_locks: WeakSet[ForkSafeLock] = WeakSet()
_registered = threading.Event()


def _register_once() -> None:
    if not _registered.is_set():
        _registered.set()
        os.register_at_fork(after_in_child=_renew_all)


def _renew_all() -> None:
    for lock in list(_locks):
        lock.renew()
