"""One request to an application in the same process, and its response."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from modeltoll import wire
from modeltoll.errors import AnswerError, UpstreamError
from modeltoll.gateway.upstream.answer_headers import passed_headers
from modeltoll.gateway.upstream.read_answer import plain_answer
from modeltoll.records import Answer

if TYPE_CHECKING:
    from starlette.types import Message

__all__ = ["ApplicationExchange"]


class ApplicationExchange:
    """One request to the application, and its response, of at most ``max_body`` bytes.

    ``ended`` is set once nothing of the response is waited for: it is complete, it is too large, or the application has
    ended. ``is_complete`` says whether all of it came. ``answer_headers`` are passed on; see ``passed_headers``.
    """

    def __init__(self, body: bytes, max_body: int, answer_headers: tuple[str, ...] = ()) -> None:
        self._body: bytes | None = body
        self._left = self._max_body = max_body
        self._answer_headers = answer_headers
        self._start: Message | None = None
        self._chunks: list[bytes] = []
        self._disconnected = asyncio.Event()
        self.ended = asyncio.Event()
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

    async def send(self, message: Message) -> None:
        """See ASGI: collects the response."""
        if self._disconnected.is_set():
            return
        if message["type"] == "http.response.start":
            self._start = message
        elif message["type"] == "http.response.body":
            self._chunks.append(bytes(message.get("body", b"")))
            self._left -= len(self._chunks[-1])
            if self._left < 0:
                self.ended.set()
            elif not message.get("more_body", False):
                self.is_complete = self._start is not None
                self._disconnected.set()
                self.ended.set()

    def answer(self) -> Answer:
        """The response.

        Raises:
            UpstreamError: the application did not send a complete response.
            AnswerError: the response is too large, or not compressed as it says, or its content type cannot be passed on.
        """
        if self._left < 0:
            raise AnswerError(f"the application's answer is larger than {self._max_body} bytes")
        if self._start is None or not self.is_complete:
            raise UpstreamError("the application did not complete its response")
        headers = {
            name.lower().decode("latin-1"): value.decode("latin-1") for name, value in self._start.get("headers", ())
        }
        body = b"".join(self._chunks)
        if headers.get("content-length", str(len(body))).strip() != str(len(body)):
            raise UpstreamError("the application's response is not as long as it says")
        content_type = headers.get("content-type", "application/octet-stream")
        if not (content_type.isascii() and content_type.isprintable()):
            raise AnswerError("the application's content type cannot be read")
        folded = wire.with_binary_length(content_type, headers.get(wire.BINARY_HEADER.lower()))
        status = int(self._start["status"])
        answer = Answer(status, folded, body, passed_headers(status, headers.items(), self._answer_headers))
        return plain_answer(answer, headers.get("content-encoding", ""), self._max_body)
