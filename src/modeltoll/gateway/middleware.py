"""ASGI middleware that runs the gateway inside the application that serves the model."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.routing import compile_path

from modeltoll import wire
from modeltoll.errors import AnswerError, UpstreamError
from modeltoll.gateway.assembly.build import build_gateway
from modeltoll.gateway.protocols.protocol import JSON
from modeltoll.gateway.settings.gateway import Settings
from modeltoll.gateway.settings.load import load_settings
from modeltoll.records import Answer

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["ApplicationUpstream", "TollMiddleware"]

_scope: ContextVar[Scope] = ContextVar("modeltoll_scope")  # of the caller's request, while the gateway handles it
_BODY_HEADERS = (b"content-length", b"content-type", b"transfer-encoding", b"accept-encoding")
_BINARY = wire.BINARY_HEADER.lower().encode()


class ApplicationUpstream:
    """The protected application as an upstream: called in the same process, with the caller's own headers.

    ``max_body`` bounds an answer in bytes.
    """

    def __init__(self, app: ASGIApp, max_body: int = 64 << 20) -> None:
        self._app = app
        self._max_body = max_body

    async def open(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close."""

    async def predict(self, path: str, body: bytes, content_type: str = JSON) -> Answer:
        """See ``Upstream.predict``."""
        return await self._ask("POST", path, body, wire.content_headers(content_type))

    async def fetch(self, path: str) -> Answer:
        """See ``Upstream.fetch``."""
        return await self._ask("GET", path, b"", {})

    async def _ask(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> Answer:
        caller_scope = _scope.get(None)
        kept = (
            [pair for pair in caller_scope["headers"] if pair[0] not in (*_BODY_HEADERS, _BINARY)]
            if caller_scope
            else []
        )
        own = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        scope: Scope = {
            **(caller_scope or {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http"}),
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [*kept, *own, (b"content-length", b"%d" % len(body))],
            "state": dict(caller_scope.get("state", {})) if caller_scope else {},
        }
        exchange = _Exchange(body, self._max_body)
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except AnswerError:
            raise
        except Exception as error:
            raise UpstreamError("the application failed", private=repr(error)) from error
        return exchange.answer()


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


class TollMiddleware:
    """A gateway as middleware, for FastAPI, Starlette, Ray Serve and other ASGI applications.

    Use: ``app.add_middleware(TollMiddleware, settings="modeltoll.yaml")``. Requests to the paths of the settings' models
    go through the gateway; all others go to the application unchanged. In the settings, ``upstream.url`` is ``app``;
    ``listen`` and ``admin`` are ignored. The ledger is opened with the application's lifespan, or, without a lifespan,
    with the first request.
    """

    def __init__(self, app: ASGIApp, settings: Settings | Path | str) -> None:
        """Read the settings and build the gateway.

        Raises:
            SettingsError: names every part of the settings that cannot be used.
        """
        loaded = settings if isinstance(settings, Settings) else load_settings(Path(settings))
        self._app = app
        upstream = ApplicationUpstream(app, int(loaded.upstream.max_answer_mib * (1 << 20)))
        self._gateway = build_gateway(loaded, upstream)
        templates = {wire.REDEEM_PATH}
        for gate in self._gateway.gates.values():
            templates |= set(gate.config.served_model.protocol.routes.infer)
        self._toll_paths = [compile_path(template)[0] for template in templates]
        self._exit_stack = AsyncExitStack()
        self._is_open = False
        self._opening = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, self._with_lifespan(send))
        elif scope["type"] == "http" and any(pattern.match(scope["path"]) for pattern in self._toll_paths):
            await self._open()
            token = _scope.set(scope)
            try:
                await self._gateway.public(dict(scope), receive, send)
            finally:
                _scope.reset(token)
        else:
            await self._app(scope, receive, send)

    def _with_lifespan(self, send: Send) -> Send:
        """Open the gateway before the application reports its start, close it before the application reports its stop."""

        async def open_or_close_and_send(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                await self._open()
            elif message["type"].startswith("lifespan.shutdown"):
                await self.close()
            await send(message)

        return open_or_close_and_send

    async def _open(self) -> None:
        if self._is_open:
            return
        async with self._opening:
            if not self._is_open:
                await self._exit_stack.enter_async_context(self._gateway.open())
                self._is_open = True

    async def close(self) -> None:
        """Close the ledger; needed where the application runs without a lifespan."""
        self._is_open = False
        await self._exit_stack.aclose()
