"""Posting of the receipts that no request returned: some seconds after their seals were opened, and when a client closes.

Nothing here raises to the caller, and closing takes at most ``CLOSE_SECONDS`` longer. What cannot be posted stays with the
purse, whose next request to the same gateway returns it.
"""

from __future__ import annotations

import atexit
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakSet

from modeltoll.client.forks import ForkSafeLock
from modeltoll.client.receipts import Receipts, Settlement

if TYPE_CHECKING:
    import asyncio

__all__ = ["CLOSE_SECONDS", "IDLE_SECONDS", "POST_SECONDS", "AsyncSettler", "Settler"]

IDLE_SECONDS = 2.0  # age of a receipt that no request returned
POST_SECONDS = 1.0  # for each step of a post: connecting, sending, receiving
CLOSE_SECONDS = 1.5
_POLL_SECONDS = 0.02
_Post: TypeAlias = Callable[[Settlement], int]
_AsyncPost: TypeAlias = Callable[[Settlement], Awaitable[int]]


def _failed(status: int) -> bool:
    """Whether a post may succeed later. A gateway that refuses receipts will refuse them again."""
    return not 200 <= status < 500


class Settler:
    """Posts receipts from one daemon thread, which runs only while there are some.

    ``post`` sends a settlement and returns the status of the response; it may raise. ``owner`` marks the receipts.
    """

    def __init__(self, receipts: Receipts, post: _Post) -> None:
        self.owner = object()
        self._receipts = receipts
        self._post = post
        self._lock = ForkSafeLock(self._start_anew)
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def _start_anew(self) -> None:
        """In a forked process, which has no thread of ours."""
        self._closing, self._thread = threading.Event(), None

    def arm(self) -> None:
        """Start the thread, if there are receipts. Drivers call this when they have paid a toll."""
        if self._receipts.seconds_until(self.owner, 0.0) is None:
            return
        with self._lock, suppress(RuntimeError):  # RuntimeError: no thread can be started now
            if self._thread is None or not self._thread.is_alive():
                thread = threading.Thread(target=self._run, name="modeltoll-settling", daemon=True)
                thread.start()
                self._thread = thread
                _close_at_exit(self)

    def close(self) -> None:
        """Post what is left, for at most ``CLOSE_SECONDS``. The settler may be used again."""
        self._closing.set()
        self.arm()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(CLOSE_SECONDS)
        self._closing.clear()

    def _run(self) -> None:
        complete = True
        while complete:
            with self._lock:  # so that no receipt arrives between the last look and the end of the thread
                wait = self._receipts.seconds_until(self.owner, IDLE_SECONDS)
                if wait is None:
                    self._thread = None
                    return
            closing = self._closing.wait(wait)
            complete = self._settle(0.0 if closing else IDLE_SECONDS)
        with self._lock:
            self._thread = None

    def _settle(self, age: float) -> bool:
        """Post receipts of that age; returns whether all were posted."""
        while (settlement := self._receipts.take_for_settlement(self.owner, age)) is not None:
            status = 0
            try:
                status = self._post(settlement)
            except Exception:  # noqa: BLE001  any error of any library, in a thread of ours
                return False
            finally:
                if _failed(status):
                    self._receipts.put_back(settlement.held)
            if _failed(status):
                return False
        return True


_armed: WeakSet[Settler] = WeakSet()


def _close_at_exit(settler: Settler) -> None:
    """Close the settler when Python exits, for clients that nobody closes."""
    if not _armed:
        atexit.unregister(_close_all)
        atexit.register(_close_all)
    _armed.add(settler)


def _close_all() -> None:
    end = time.monotonic() + CLOSE_SECONDS
    for settler in list(_armed):
        if time.monotonic() < end:
            settler.close()


class AsyncSettler:
    """The same on an event loop of asyncio or trio, without a thread. ``post`` is a coroutine function."""

    def __init__(self, receipts: Receipts, post: _AsyncPost) -> None:
        self.owner = object()
        self._receipts = receipts
        self._post = post
        self._loop: object = None  # on which a timer or a task is pending
        self._timer: asyncio.TimerHandle | None = None
        self._task: object = None
        self._posting = 0

    def arm(self) -> None:
        """Plan a post, if there are receipts. Drivers call this when they have paid a toll."""
        wait = self._receipts.seconds_until(self.owner, IDLE_SECONDS)
        if wait is None:
            return
        loop = _asyncio_loop()
        if loop is None:
            self._arm_trio()
        elif self._loop is not loop or self._timer is None:
            self._loop = loop
            self._timer = loop.call_later(wait, self._start_task, loop)

    async def close(self) -> None:
        """Post what is left, for at most ``CLOSE_SECONDS``. The settler may be used again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._posting and self._receipts.seconds_until(self.owner, 0.0) is None:
            return
        if _asyncio_loop() is None:
            with _trio().move_on_after(CLOSE_SECONDS):
                await self._finish(_trio().sleep)
            return
        asyncio_module = sys.modules["asyncio"]
        with suppress(TimeoutError):
            async with asyncio_module.timeout(CLOSE_SECONDS):
                await self._finish(asyncio_module.sleep)

    async def _finish(self, sleep: Callable[[float], Awaitable[None]]) -> None:
        await self._settle(0.0)
        while self._posting:
            await sleep(_POLL_SECONDS)

    def _start_task(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        self._task = loop.create_task(self._settle_idle())

    def _arm_trio(self) -> None:
        trio = _trio()
        token = trio.lowlevel.current_trio_token()
        if self._loop is not token:
            self._loop = token
            trio.lowlevel.spawn_system_task(self._wait_and_settle)

    async def _wait_and_settle(self) -> None:
        try:
            while (wait := self._receipts.seconds_until(self.owner, IDLE_SECONDS)) is not None:
                await _trio().sleep(wait)
                if not await self._settle(IDLE_SECONDS):
                    return
        finally:
            self._loop = None

    async def _settle_idle(self) -> None:
        if await self._settle(IDLE_SECONDS):
            self.arm()

    async def _settle(self, age: float) -> bool:
        """Post receipts of that age; returns whether all were posted."""
        self._posting += 1
        try:
            while (settlement := self._receipts.take_for_settlement(self.owner, age)) is not None:
                if not await self._post_one(settlement):
                    return False
        finally:
            self._posting -= 1
        return True

    async def _post_one(self, settlement: Settlement) -> bool:
        status = 0
        try:
            status = await self._post(settlement)
        except Exception:  # noqa: BLE001  any error of any library, which no caller waits for
            return False
        finally:
            if _failed(status):
                self._receipts.put_back(settlement.held)
        return not _failed(status)


def _trio() -> Any:
    """The module, which is imported where its loop runs."""
    return sys.modules["trio"]


def _asyncio_loop() -> asyncio.AbstractEventLoop | None:
    """The running loop of asyncio, or None under trio."""
    asyncio_module: Any = sys.modules.get("asyncio")
    if asyncio_module is None:
        return None
    try:
        loop: asyncio.AbstractEventLoop = asyncio_module.get_running_loop()
    except RuntimeError:
        return None
    return loop
