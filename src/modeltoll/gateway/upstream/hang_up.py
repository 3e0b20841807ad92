"""Ends a request to the model server when its caller hangs up, so that the server may stop and the place comes free."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from modeltoll.errors import CallerGone
from modeltoll.gateway.protocols.protocol import JSON
from modeltoll.gateway.upstream.upstream import NO_HEAD, UpstreamWrapper

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modeltoll.gateway.upstream.upstream import AnswerStream, RequestHead
    from modeltoll.records import Answer

__all__ = ["HangUpUpstream", "caller_present"]

T = TypeVar("T")

_gone: ContextVar[asyncio.Future[None]] = ContextVar("modeltoll_caller_gone")


@contextmanager
def caller_present(gone: asyncio.Future[None]) -> Iterator[None]:
    """While the block lasts, requests to a ``HangUpUpstream`` end with ``CallerGone`` once ``gone`` is done."""
    token = _gone.set(gone)
    try:
        yield
    finally:
        _gone.reset(token)


class HangUpUpstream(UpstreamWrapper):
    """An upstream whose requests are cancelled when the caller hangs up; they raise ``CallerGone`` then."""

    async def predict(self, path: str, body: bytes, content_type: str = JSON, head: RequestHead = NO_HEAD) -> Answer:
        """See ``Upstream.predict``."""
        return await _while_present(self._upstream.predict(path, body, content_type, head))

    @asynccontextmanager
    async def stream(
        self, path: str, body: bytes, content_type: str = JSON, head: RequestHead = NO_HEAD
    ) -> AsyncIterator[AnswerStream]:
        """See ``Upstream.stream``. A hang-up is raised by the iteration; leaving the context then ends the request."""
        async with AsyncExitStack() as opened:
            entering = opened.enter_async_context(self._upstream.stream(path, body, content_type, head))
            answer = await _while_present(entering)
            yield replace(answer, chunks=_chunks_while_present(answer.chunks))

    async def fetch(self, path: str, head: RequestHead = NO_HEAD) -> Answer:
        """See ``Upstream.fetch``."""
        return await _while_present(self._upstream.fetch(path, head))


async def _chunks_while_present(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    while chunk := await _while_present(anext(chunks, b"")):  # none of them is empty
        yield chunk


async def _while_present(request: Awaitable[T]) -> T:
    """The result of a request, which is cancelled when the caller hangs up.

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
