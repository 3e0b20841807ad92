"""Ends a request to the model server when its caller hangs up, so that the server may stop and the place comes free."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING

from modeltoll.errors import CallerGone
from modeltoll.gateway.protocols.protocol import JSON
from modeltoll.gateway.upstream.upstream import NO_HEAD, UpstreamWrapper

if TYPE_CHECKING:
    from modeltoll.gateway.upstream.upstream import AnswerStream, RequestHead
    from modeltoll.records import Answer

__all__ = ["HangUpUpstream", "caller_present"]

_gone: ContextVar[asyncio.Future[None]] = ContextVar("modeltoll_caller_gone")


class caller_present:  # noqa: N801  it is used as a function: with caller_present(gone)
    """While the block lasts, requests to a ``HangUpUpstream`` end with ``CallerGone`` once ``gone`` is done."""

    __slots__ = ("_new", "_token")

    def __init__(self, gone: asyncio.Future[None]) -> None:
        self._new = gone

    def __enter__(self) -> None:
        self._token = _gone.set(self._new)

    def __exit__(self, *_: object) -> None:
        _gone.reset(self._token)


class HangUpUpstream(UpstreamWrapper):
    """An upstream whose requests are cancelled when the caller hangs up; they raise ``CallerGone`` then."""

    async def predict(self, path: str, body: bytes, content_type: str = JSON, head: RequestHead = NO_HEAD) -> Answer:
        """See ``Upstream.predict``."""
        with _CancelledByHangUp():
            return await self._upstream.predict(path, body, content_type, head)

    @asynccontextmanager
    async def stream(
        self, path: str, body: bytes, content_type: str = JSON, head: RequestHead = NO_HEAD
    ) -> AsyncIterator[AnswerStream]:
        """See ``Upstream.stream``. A hang-up is raised by the iteration; leaving the context then ends the request."""
        async with AsyncExitStack() as opened:
            with _CancelledByHangUp():
                answer = await opened.enter_async_context(self._upstream.stream(path, body, content_type, head))
            yield replace(answer, chunks=_chunks_until_hang_up(answer.chunks))

    async def fetch(self, path: str, head: RequestHead = NO_HEAD) -> Answer:
        """See ``Upstream.fetch``."""
        with _CancelledByHangUp():
            return await self._upstream.fetch(path, head)


async def _chunks_until_hang_up(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    while True:
        with _CancelledByHangUp():
            chunk = await anext(chunks, b"")  # none of them is empty
        if not chunk:
            return
        yield chunk


class _CancelledByHangUp:
    """While the block lasts, a hang-up of the caller cancels it. The block raises ``CallerGone`` then.

    It works as ``asyncio.timeout`` does, and makes no task for what is awaited in the block.
    """

    def __init__(self) -> None:
        self._gone = _gone.get(None)
        self._task: asyncio.Task[object] | None = None  # that of the block, while it lasts
        self._cancelling = 0  # other cancellations of the task that were asked for before the block
        self._has_hung_up = False

    def __enter__(self) -> None:
        if self._gone is None:
            return
        if self._gone.done():
            raise CallerGone("the caller has gone")
        self._task = asyncio.current_task()
        assert self._task is not None  # a coroutine runs in a task
        self._cancelling = self._task.cancelling()
        self._gone.add_done_callback(self._cancel)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        task, self._task = self._task, None
        if task is None or self._gone is None:
            return
        self._gone.remove_done_callback(self._cancel)
        if self._has_hung_up and task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise CallerGone("the caller has gone") from None

    def _cancel(self, _: object) -> None:
        if self._task is not None:
            self._has_hung_up = True
            self._task.cancel()
