"""Event streams of the sidecar while a gateway collects them and their tolls are paid.

The program would have got its first event long before. So that it does not give up meanwhile, the sidecar begins the response
after 10 s and sends a comment every 10 s. Once it has begun, what is no event stream can only be told in an error event.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from aiohttp import web

from modeltoll.client.aiohttp import TollMiddleware

if TYPE_CHECKING:
    from aiohttp import ClientResponse

__all__ = ["KEEP_ALIVE_SECONDS", "AnnouncingMiddleware", "WaitingProgram", "is_event_stream", "refusal"]

KEEP_ALIVE_SECONDS = 10.0
_KEEP_ALIVE = b":\n\n"
_OK = 200
_HEADERS = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"}
_toll_found: ContextVar[asyncio.Event] = ContextVar("whether the response to a program's request is a toll")


class AnnouncingMiddleware(TollMiddleware):
    """Tells the ``WaitingProgram`` of a request when a toll has begun to come."""

    def _begin_toll(self) -> None:
        if (found := _toll_found.get(None)) is not None:
            found.set()


class WaitingProgram:
    """A program that waits for the response to its request."""

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self.response: web.StreamResponse | None = None  # once it has begun, before the upstream's

    @asynccontextmanager
    async def wait(self, answer: Coroutine[Any, Any, ClientResponse]) -> AsyncIterator[ClientResponse]:
        """The upstream's response to a request for an event stream. Comments are sent once it is known to be a toll."""
        found = asyncio.Event()
        token = _toll_found.set(found)
        pending = asyncio.ensure_future(answer)  # with a copy of the context
        _toll_found.reset(token)
        try:
            while not (await asyncio.wait([pending], timeout=KEEP_ALIVE_SECONDS))[0]:
                if found.is_set():
                    await self._send_comment()
            async with pending.result() as upstream_response:
                yield upstream_response
        finally:
            pending.cancel()

    async def _send_comment(self) -> None:
        if self.response is None:
            self.response = web.StreamResponse(headers=_HEADERS)
            await self.response.prepare(self._request)
        await self.response.write(_KEEP_ALIVE)

    async def refuse(self, status: int, reason: str) -> web.StreamResponse:
        """The response with the reason why there is no answer; an error event in a response that has begun."""
        if self.response is None:
            return refusal(status, reason)
        await self._end(self.response, {"error": {"message": reason, "code": status}})
        return self.response

    async def pass_on(self, upstream_response: ClientResponse) -> bool:
        """End a response that has begun with what the upstream answers in place of an event stream; whether it is an answer."""
        assert self.response is not None
        status, body = upstream_response.status, await upstream_response.content.read()
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            document = None
        if status == _OK and document is not None:  # it may have been paid for
            await self._end(self.response, document)
            return True
        error = document.get("error") if isinstance(document, dict) else None
        reason = error if isinstance(error, str) else f"the upstream answered {status}"
        error = error if isinstance(error, dict) else {"message": reason, "code": status}
        await self._end(self.response, {"error": error})
        return False

    @staticmethod
    async def _end(response: web.StreamResponse, document: object) -> None:
        """Send a document as the last event. Clients of OpenAI's API raise one with an ``error``."""
        with suppress(OSError):  # the program has left
            await response.write(b"data: " + json.dumps(document).encode() + b"\n\n")
            await response.write_eof()


def refusal(status: int, reason: str) -> web.Response:
    """A response of the sidecar's own."""
    return web.Response(status=status, text=json.dumps({"error": reason}), content_type="application/json")


def is_event_stream(upstream_response: ClientResponse) -> bool:
    """Whether the upstream's response is what the program asked for."""
    return upstream_response.status == _OK and upstream_response.content_type == "text/event-stream"
