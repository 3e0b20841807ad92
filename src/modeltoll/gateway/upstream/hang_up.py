"""Ends a request to the model server when its caller hangs up, so that the server may stop and the place comes free."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from modeltoll.errors import CallerGone
from modeltoll.gateway.protocols.protocol import JSON
from modeltoll.gateway.upstream.upstream import NO_HEAD

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from modeltoll.gateway.upstream.upstream import RequestHead, Upstream
    from modeltoll.records import Answer

__all__ = ["HangUpUpstream", "caller_present"]

_gone: ContextVar[asyncio.Future[None]] = ContextVar("modeltoll_caller_gone")


@contextmanager
def caller_present(gone: asyncio.Future[None]) -> Iterator[None]:
    """While the block lasts, requests to a ``HangUpUpstream`` end with ``CallerGone`` once ``gone`` is done."""
    token = _gone.set(gone)
    try:
        yield
    finally:
        _gone.reset(token)


class HangUpUpstream:
    """An upstream whose requests are cancelled when the caller hangs up; they raise ``CallerGone`` then."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    async def open(self) -> None:
        """See ``Upstream.open``."""
        await self._upstream.open()

    async def close(self) -> None:
        """See ``Upstream.close``."""
        await self._upstream.close()

    async def predict(self, path: str, body: bytes, content_type: str = JSON, head: RequestHead = NO_HEAD) -> Answer:
        """See ``Upstream.predict``."""
        return await _while_present(self._upstream.predict(path, body, content_type, head))

    async def fetch(self, path: str, head: RequestHead = NO_HEAD) -> Answer:
        """See ``Upstream.fetch``."""
        return await _while_present(self._upstream.fetch(path, head))


async def _while_present(request: Coroutine[Any, Any, Answer]) -> Answer:
    """The answer to a request, which is cancelled when the caller hangs up.

    Raises:
        CallerGone: the caller has hung up.
    """
    gone = _gone.get(None)
    if gone is None:
        return await request
    asking = asyncio.ensure_future(request)
    try:
        await asyncio.wait((asking, gone), return_when=asyncio.FIRST_COMPLETED)
        if asking.done():
            return asking.result()
    finally:
        if not asking.done():
            asking.cancel()
            await asyncio.wait((asking,))
    raise CallerGone("the caller has gone")
