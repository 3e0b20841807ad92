"""A bounded queue in front of the model server: who finds it full is told so at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from modeltoll.errors import UpstreamBusy
from modeltoll.gateway.protocols.protocol import JSON

if TYPE_CHECKING:
    from modeltoll.gateway.upstream.upstream import Upstream
    from modeltoll.records import Answer

__all__ = ["BoundedUpstream"]


class BoundedUpstream:
    """An upstream that is asked by so many requests at once; others wait in the order in which they came.

    ``concurrent`` requests are with the model server at most, ``waiting`` wait for one of them to end, for ``seconds``
    at most. What is fetched (health, metadata) does not stand in the queue.
    """

    def __init__(self, upstream: Upstream, *, concurrent: int, waiting: int, seconds: float) -> None:
        self._upstream = upstream
        self._slots = asyncio.Semaphore(concurrent)
        self._most = waiting
        self._seconds = seconds
        self.inside = 0
        self.waiting = 0

    async def open(self) -> None:
        """See ``Upstream.open``."""
        await self._upstream.open()

    async def close(self) -> None:
        """See ``Upstream.close``."""
        await self._upstream.close()

    async def predict(self, path: str, body: bytes, content_type: str = JSON) -> Answer:
        """See ``Upstream.predict``; raises ``UpstreamBusy`` where the queue is full, or too slow."""
        async with self._place():
            return await self._upstream.predict(path, body, content_type)

    async def fetch(self, path: str) -> Answer:
        """See ``Upstream.fetch``."""
        return await self._upstream.fetch(path)

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        if self._slots.locked():
            await self._wait()
        else:
            await self._slots.acquire()  # at once
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1
            self._slots.release()

    async def _wait(self) -> None:
        if self.waiting >= self._most:
            raise UpstreamBusy("too many requests wait for the model; try again later")
        self.waiting += 1
        try:
            async with asyncio.timeout(self._seconds):
                await self._slots.acquire()
        except TimeoutError:
            raise UpstreamBusy("the model had no time for the request; try again later") from None
        finally:
            self.waiting -= 1
