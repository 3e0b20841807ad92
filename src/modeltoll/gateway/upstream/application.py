"""The protected application as an upstream: called in the same process, with the caller's own headers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from starlette._utils import get_route_path

from modeltoll import wire
from modeltoll.errors import UpstreamTimeout
from modeltoll.gateway.protocols.protocol import JSON
from modeltoll.gateway.upstream.application_exchange import ApplicationExchange
from modeltoll.gateway.upstream.upstream import NO_HEAD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractAsyncContextManager

    from starlette.types import ASGIApp, Scope

    from modeltoll.gateway.upstream.upstream import AnswerStream, RequestHead
    from modeltoll.records import Answer

__all__ = ["ApplicationUpstream", "CallerRequest", "is_gateway_call"]

_BODY_HEADERS = (
    b"content-length",
    b"content-type",
    b"content-encoding",
    b"transfer-encoding",
    b"accept-encoding",
    b"expect",
)
_BINARY = wire.BINARY_HEADER.lower().encode()
_NO_SCOPE: Scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http", "headers": []}
_CALLS = "modeltoll.calls"  # key in the scope of a call of the application: the gateway makes it
_ROUTED = ("endpoint", "route", "router", "path_params")  # keys that routers write into a scope
_LEAVING_SECONDS = 0.5  # between a disconnect that the application sees, and its cancellation


@dataclass(slots=True)
class CallerRequest:
    """A request that the gateway handles: the caller's scope, and the calls of the application for it.

    ``reached`` is what the application's router wrote into the scope of the latest call: its endpoint and route, for what
    is around the gateway and counts or traces requests by their route. Some of the ``calls`` may run still.
    """

    scope: Scope
    reached: dict[str, Any] = field(default_factory=dict)
    calls: list[asyncio.Task[None]] = field(default_factory=list)

    @contextmanager
    def current(self) -> Iterator[None]:
        """While the block lasts, calls of the application are for this request."""
        token = _caller_request.set(self)
        try:
            yield
        finally:
            _caller_request.reset(token)

    async def finish(self) -> None:
        """Wait for what the application does after its response; raises what the application has raised.

        The caller's answer is out by then. The exception is for the server around, which logs it as any other of the
        application's.
        """
        if self.calls:
            await asyncio.wait(self.calls)
        for call in self.calls:
            if not call.cancelled() and (error := call.exception()) is not None:
                raise error

    def cancel(self) -> None:
        """Cancel what the application still does for this request."""
        for call in self.calls:
            call.cancel()


_caller_request: ContextVar[CallerRequest] = ContextVar("modeltoll_caller_request")


def is_gateway_call(scope: Scope) -> bool:
    """Whether a gateway calls the application with this scope."""
    return _CALLS in scope


class ApplicationUpstream:
    """The protected application as an upstream.

    ``max_body`` bounds an answer in bytes, ``timeout`` is the longest time in seconds until an answer is complete, or until
    a stream begins, and the longest pause in it.
    ``on_predicted`` gets the scope of each prediction, as the application leaves it. ``answer_headers``: names, in small
    letters, of the answer's headers that are passed on. ``read_headers``: names of the request's headers that are part of
    its rows' identity; the application gets them from the request's head, for an admitted request comes with those of its
    redemption.
    """

    def __init__(
        self,
        app: ASGIApp,
        max_body: int = 64 << 20,
        on_predicted: Callable[[Scope], None] | None = None,
        timeout: float = 30.0,
        answer_headers: tuple[str, ...] = (),
        read_headers: tuple[str, ...] = (),
    ) -> None:
        self._app = app
        self._replaced = frozenset((*_BODY_HEADERS, _BINARY, *(name.encode() for name in read_headers)))
        self._max_body = max_body
        self._on_predicted = on_predicted
        self._timeout = timeout
        self._answer_headers = answer_headers

    async def open(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close."""

    async def predict(self, path: str, body: bytes, content_type: str = JSON, head: RequestHead = NO_HEAD) -> Answer:
        """See ``Upstream.predict``."""
        return await self._whole(self._posting(path, body, content_type, head))

    @asynccontextmanager
    async def stream(
        self, path: str, body: bytes, content_type: str = JSON, head: RequestHead = NO_HEAD
    ) -> AsyncIterator[AnswerStream]:
        """See ``Upstream.stream``."""
        async with self._posting(path, body, content_type, head) as exchange:
            async with self._in_time():
                answer = await exchange.answer()
            yield replace(answer, chunks=self._chunks_in_time(answer.chunks))

    async def fetch(self, path: str, head: RequestHead = NO_HEAD) -> Answer:
        """See ``Upstream.fetch``."""
        return await self._whole(self._exchange(self._scope("GET", path, b"", (head, {})), b""))

    @asynccontextmanager
    async def _posting(
        self, path: str, body: bytes, content_type: str, head: RequestHead
    ) -> AsyncIterator[ApplicationExchange]:
        """A prediction. What the application's router writes into its scope is kept."""
        scope = self._scope("POST", path, body, (head, wire.content_headers(content_type)))
        try:
            async with self._exchange(scope, body) as exchange:
                yield exchange
        finally:
            if self._on_predicted is not None:
                self._on_predicted(scope)
            if (request := _caller_request.get(None)) is not None:
                request.reached = {name: scope[name] for name in _ROUTED if name in scope}

    def _scope(self, method: str, path: str, body: bytes, sent: tuple[RequestHead, dict[str, str]]) -> Scope:
        """The caller's scope with this request in it. ``path`` is put where the caller's path was, below any root path.

        ``sent``: the head, of which the query and the headers that are read are used, for all others of the caller are kept;
        and the body's headers.
        The application and what is around the gateway share ``request.state``. The server's extensions are left out: a
        response by one of them would not be seen here.
        """
        head, headers = sent
        request = _caller_request.get(None)
        caller = _NO_SCOPE if request is None else request.scope
        kept = [(name, value) for name, value in caller["headers"] if name.lower() not in self._replaced]
        own = [(name.lower().encode(), value.encode()) for name, value in (*head.read_headers, *headers.items())]
        full = _prefix(caller) + path
        return {
            **caller,
            "method": method,
            "path": full,
            "raw_path": quote(full, safe="/:@!$&'()*+,;=~").encode(),
            "query_string": head.query.encode("ascii"),
            "headers": [*kept, *own, (b"content-length", b"%d" % len(body))],
            "state": caller.get("state", {}),
            "extensions": {},
            _CALLS: True,
        }

    @asynccontextmanager
    async def _exchange(self, scope: Scope, body: bytes) -> AsyncIterator[ApplicationExchange]:
        """Call the application. What it does after its response runs on.

        A caller that hangs up, and an answer that takes too long, are a disconnect to the application. If it does not end
        soon after that, it is cancelled.
        """
        exchange = ApplicationExchange(body, self._max_body, self._answer_headers)
        call = asyncio.create_task(self._call(scope, exchange))
        call.add_done_callback(_retrieve_exception)
        request = _caller_request.get(None)
        if request is not None:
            request.calls.append(call)
        try:
            yield exchange
        finally:
            if not exchange.is_complete:
                exchange.disconnect()
                asyncio.get_running_loop().call_later(_LEAVING_SECONDS, call.cancel)

    async def _call(self, scope: Scope, exchange: ApplicationExchange) -> None:
        failure = None
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except Exception as error:
            failure = error
            raise
        finally:
            exchange.end(failure)

    async def _whole(self, exchanging: AbstractAsyncContextManager[ApplicationExchange]) -> Answer:
        """The response, as soon as it is complete."""
        async with self._in_time(), exchanging as exchange:
            return await (await exchange.answer()).whole()

    async def _chunks_in_time(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        while True:
            async with self._in_time():
                chunk = await anext(chunks, b"")  # none of them is empty
            if not chunk:
                return
            yield chunk

    @asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        """Bounds the block by the timeout; raises ``UpstreamTimeout``."""
        try:
            async with asyncio.timeout(self._timeout):
                yield
        except TimeoutError:
            raise UpstreamTimeout("the application did not answer in time") from None


def _retrieve_exception(call: asyncio.Task[None]) -> None:
    """Keep asyncio from logging what an application raised where there is no caller's request that raises it again."""
    if not call.cancelled():
        call.exception()


def _prefix(scope: Scope) -> str:
    """What stands in a scope's path before the path that the routes see."""
    path: str = scope.get("path", "")
    return path[: len(path) - len(get_route_path(scope))] if path else ""
