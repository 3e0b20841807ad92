"""A bounded queue in front of the model server; a request that finds it full is refused at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from modeltoll.errors import UpstreamBusy
from modeltoll.gateway.protocols.protocol import JSON
from modeltoll.gateway.upstream.upstream import NO_HEAD, UpstreamWrapper

if TYPE_CHECKING:
    from modeltoll.gateway.upstream.upstream import AnswerStream, RequestHead, Upstream
    from modeltoll.records import Answer

__all__ = ["BoundedUpstream"]


class BoundedUpstream(UpstreamWrapper):
    """An upstream with bounded concurrency; requests wait in the order of their arrival.

    At most ``max_concurrent`` requests are with the model server; at most ``max_waiting`` wait for one of them to end,
    each for at most ``max_wait_seconds``. ``fetch`` (health, metadata) is not queued.
    """

    def __init__(self, upstream: Upstream, *, max_concurrent: int, max_waiting: int, max_wait_seconds: float) -> None:
        super().__init__(upstream)
        self._max_concurrent = max_concurrent
        self._slots = asyncio.Semaphore(max_concurrent)
        self._max_waiting = max_waiting
        self._max_wait_seconds = max_wait_seconds
        self.active = 0
        self.waiting = 0

    async def open(self) -> None:
        """See ``Upstream.open``."""
        self._slots, self.active, self.waiting = asyncio.Semaphore(self._max_concurrent), 0, 0  # of this event loop
        await super().open()

    async def predict(self, path: str, body: bytes, content_type: str = JSON, head: RequestHead = NO_HEAD) -> Answer:
        """See ``Upstream.predict``; raises ``UpstreamBusy`` where the queue is full, or the wait too long."""
        await self._take_slot()
        try:
            return await self._upstream.predict(path, body, content_type, head)
        finally:
            self._give_slot_back()

    @asynccontextmanager
    async def stream(
        self, path: str, body: bytes, content_type: str = JSON, head: RequestHead = NO_HEAD
    ) -> AsyncIterator[AnswerStream]:
        """See ``Upstream.stream``; raises as ``predict``. The request is with the model server until the context is left."""
        await self._take_slot()
        try:
            async with self._upstream.stream(path, body, content_type, head) as answer:
                yield answer
        finally:
            self._give_slot_back()

    async def _take_slot(self) -> None:
        if self._slots.locked():
            await self._wait()
        else:
            await self._slots.acquire()  # never waits here
        self.active += 1

    def _give_slot_back(self) -> None:
        self.active -= 1
        self._slots.release()

    async def _wait(self) -> None:
        if self.waiting >= self._max_waiting:
            raise UpstreamBusy("too many requests are waiting for the model server; try again later")
        self.waiting += 1
        try:
            async with asyncio.timeout(self._max_wait_seconds):
                await self._slots.acquire()
        except TimeoutError:
            raise UpstreamBusy("the request waited too long for the model server; try again later") from None
        finally:
            self.waiting -= 1
