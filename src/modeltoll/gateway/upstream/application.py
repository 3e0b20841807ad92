"""The protected application as an upstream: called in the same process, with the caller's own headers."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import TYPE_CHECKING
from urllib.parse import quote

from starlette._utils import get_route_path

from modeltoll import wire
from modeltoll.errors import AnswerError, UpstreamError
from modeltoll.gateway.protocols.protocol import JSON
from modeltoll.gateway.upstream.upstream import NO_HEAD
from modeltoll.records import Answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Scope

    from modeltoll.gateway.upstream.upstream import RequestHead

__all__ = ["ApplicationUpstream", "caller_scope"]

caller_scope: ContextVar[Scope] = ContextVar("modeltoll_scope")  # of the request that the gateway handles
_BODY_HEADERS = (b"content-length", b"content-type", b"transfer-encoding", b"accept-encoding")
_BINARY = wire.BINARY_HEADER.lower().encode()
_NO_SCOPE: Scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http", "headers": []}


class ApplicationUpstream:
    """The protected application as an upstream.

    ``max_body`` bounds an answer in bytes. ``on_predicted`` gets the scope of each prediction, as the application leaves it.
    """

    def __init__(
        self, app: ASGIApp, max_body: int = 64 << 20, on_predicted: Callable[[Scope], None] | None = None
    ) -> None:
        self._app = app
        self._max_body = max_body
        self._on_predicted = on_predicted

    async def open(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close."""

    async def predict(self, path: str, body: bytes, content_type: str = JSON, head: RequestHead = NO_HEAD) -> Answer:
        """See ``Upstream.predict``."""
        scope = self._scope("POST", path, body, (head, wire.content_headers(content_type)))
        try:
            return await self._ask(scope, body)
        finally:
            if self._on_predicted is not None:
                self._on_predicted(scope)

    async def fetch(self, path: str, head: RequestHead = NO_HEAD) -> Answer:
        """See ``Upstream.fetch``."""
        return await self._ask(self._scope("GET", path, b"", (head, {})), b"")

    def _scope(self, method: str, path: str, body: bytes, sent: tuple[RequestHead, dict[str, str]]) -> Scope:
        """The caller's scope with this request in it. ``path`` is put where the caller's path was, below any root path.

        ``sent``: the head, of which the query is used, for all headers of the caller are kept; and the body's headers.
        """
        head, headers = sent
        caller = caller_scope.get(_NO_SCOPE)
        kept = [pair for pair in caller["headers"] if pair[0] not in (*_BODY_HEADERS, _BINARY)]
        own = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        full = _prefix(caller) + path
        return {
            **caller,
            "method": method,
            "path": full,
            "raw_path": quote(full, safe="/:@!$&'()*+,;=~").encode(),
            "query_string": head.query.encode("ascii"),
            "headers": [*kept, *own, (b"content-length", b"%d" % len(body))],
            "state": dict(caller.get("state", {})),
        }

    async def _ask(self, scope: Scope, body: bytes) -> Answer:
        exchange = _Exchange(body, self._max_body)
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except AnswerError:
            raise
        except Exception as error:
            raise UpstreamError("the application failed", private=repr(error)) from error
        return exchange.answer()


def _prefix(scope: Scope) -> str:
    """What stands in a scope's path before the path that the routes see."""
    path: str = scope.get("path", "")
    return path[: len(path) - len(get_route_path(scope))] if path else ""


class _Exchange:
    """One request to the application, and its response."""

    def __init__(self, body: bytes, max_body: int) -> None:
        self._body: bytes | None = body
        self._left = self._max_body = max_body
        self._start: Message | None = None
        self._chunks: list[bytes] = []
        self._complete = asyncio.Event()

    async def receive(self) -> Message:
        """See ASGI: the whole body, and a disconnect once the response is complete."""
        body, self._body = self._body, None
        if body is not None:
            return {"type": "http.request", "body": body, "more_body": False}
        await self._complete.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """See ASGI: collects the response.

        Raises:
            AnswerError: the response is larger than the limit.
        """
        if message["type"] == "http.response.start":
            self._start = message
        elif message["type"] == "http.response.body":
            self._chunks.append(bytes(message.get("body", b"")))
            self._left -= len(self._chunks[-1])
            if self._left < 0:
                raise AnswerError(f"the application's answer is larger than {self._max_body} bytes")
            if not message.get("more_body", False):
                self._complete.set()

    def answer(self) -> Answer:
        """The response.

        Raises:
            UpstreamError: the application did not send a complete response.
            AnswerError: the response is compressed, or its content type cannot be passed on.
        """
        if self._start is None or not self._complete.is_set():
            raise UpstreamError("the application did not complete its response")
        headers = {name.lower().decode("latin-1"): value.decode("latin-1") for name, value in self._start["headers"]}
        if headers.get("content-encoding", "identity") != "identity":
            raise AnswerError("the application's answer is compressed, though it was not asked for")
        content_type = headers.get("content-type", "application/octet-stream")
        if not (content_type.isascii() and content_type.isprintable()):
            raise AnswerError("the application's content type cannot be read")
        folded = wire.with_binary_length(content_type, headers.get(wire.BINARY_HEADER.lower()))
        return Answer(int(self._start["status"]), folded, b"".join(self._chunks))
