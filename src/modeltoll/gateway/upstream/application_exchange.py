"""One request to an application in the same process, and its response."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from modeltoll import wire
from modeltoll.errors import AnswerTooLarge, AnswerUnusable, UpstreamError
from modeltoll.gateway.upstream.answer_headers import passed_headers
from modeltoll.gateway.upstream.read_answer import plain_stream
from modeltoll.gateway.upstream.upstream import AnswerStream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import Message

__all__ = ["ApplicationExchange"]

_MOST_WAITING = 1 << 20  # bytes that were sent and not read; then the application waits


class ApplicationExchange:
    """One request to the application, and its response, of at most ``max_body`` bytes, which is read while it is sent.

    ``is_complete`` says whether all of it came. ``answer_headers`` are passed on; see ``passed_headers``.
    """

    def __init__(self, body: bytes, max_body: int, answer_headers: tuple[str, ...] = ()) -> None:
        self._body: bytes | None = body
        self._left = self._max_body = max_body
        self._answer_headers = answer_headers
        self._start: Message | None = None
        self._chunks: deque[bytes] = deque()
        self._waiting = 0  # bytes in ``_chunks``
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._disconnected = asyncio.Event()
        self._failure: Exception | None = None
        self._has_ended = False
        self.is_complete = False

    async def receive(self) -> Message:
        """See ASGI: the whole body, and a disconnect once the response is complete or no longer wanted."""
        body, self._body = self._body, None
        if body is not None:
            return {"type": "http.request", "body": body, "more_body": False}
        await self._disconnected.wait()
        return {"type": "http.disconnect"}

    def disconnect(self) -> None:
        """Tell the application that nobody waits for more of its response; what it still sends is dropped."""
        self._disconnected.set()
        self._room.set()

    def end(self, failure: Exception | None = None) -> None:
        """The application has ended, with ``failure`` if it raised one."""
        self._failure, self._has_ended = failure, True
        self._news.set()

    async def send(self, message: Message) -> None:
        """See ASGI: takes the response. It waits where much of it is not read yet."""
        if self._disconnected.is_set():
            return
        if message["type"] == "http.response.start":
            self._start = message
        elif message["type"] == "http.response.body":
            self._take(bytes(message.get("body", b"")), more=message.get("more_body", False))
        self._news.set()
        while self._waiting > _MOST_WAITING and not self._disconnected.is_set():
            self._room.clear()
            await self._room.wait()

    def _take(self, chunk: bytes, *, more: bool) -> None:
        self._left -= len(chunk)
        if chunk and self._left >= 0:
            self._chunks.append(chunk)
            self._waiting += len(chunk)
        if self._left >= 0 and not more:
            self.is_complete = self._start is not None
            self._disconnected.set()

    async def answer(self) -> AnswerStream:
        """The response, once its head came.

        Raises:
            UpstreamError: the application sent none. AnswerUnusable: its content type or its coding cannot be passed on.
        """
        while self._start is None:
            self._check_running()
            await self._wait()
        headers = {
            name.lower().decode("latin-1"): value.decode("latin-1") for name, value in self._start.get("headers", ())
        }
        content_type = headers.get("content-type", "application/octet-stream")
        if not (content_type.isascii() and content_type.isprintable()):
            raise AnswerUnusable("the application's content type cannot be read")
        folded = wire.with_binary_length(content_type, headers.get(wire.BINARY_HEADER.lower()))
        status = int(self._start["status"])
        passed = passed_headers(status, headers.items(), self._answer_headers)
        stream = AnswerStream(status, folded, passed, self._body_chunks(headers.get("content-length")))
        return plain_stream(stream, headers.get("content-encoding", ""), self._max_body)

    async def _body_chunks(self, stated: str | None) -> AsyncIterator[bytes]:
        """The body, which must be as long as is ``stated``; raises as ``Upstream.predict``."""
        while True:
            while self._chunks and self._left >= 0:
                chunk = self._chunks.popleft()
                self._waiting -= len(chunk)
                self._room.set()
                yield chunk
            if self._left < 0:
                raise AnswerTooLarge(f"the application's answer is larger than {self._max_body} bytes")
            if self.is_complete:
                break
            self._check_running()
            await self._wait()
        if stated is not None and stated.strip() != str(self._max_body - self._left):
            raise UpstreamError("the application's response is not as long as it says")

    def _check_running(self) -> None:
        if self._failure is not None:
            raise UpstreamError("the application failed", private=repr(self._failure)) from self._failure
        if self._has_ended:
            raise UpstreamError("the application did not complete its response")

    async def _wait(self) -> None:
        await self._news.wait()
        self._news.clear()
