"""The toll house inside the application that it guards: ASGI middleware for FastAPI, Starlette, Ray Serve and others."""

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
from modeltoll.gateway.settings.load import Settings, load_settings
from modeltoll.records import Answer

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["ApplicationUpstream", "TollMiddleware"]

_scope: ContextVar[Scope] = ContextVar("modeltoll_scope")  # the request that is at the gate
_OF_THE_BODY = (b"content-length", b"content-type", b"transfer-encoding", b"accept-encoding")
_BINARY = wire.BINARY_HEADER.lower().encode()


class ApplicationUpstream:
    """The guarded application as a model server: asked in the same process, with the caller's own headers.

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
        """As ``Upstream.predict``."""
        return await self._ask("POST", path, body, wire.content_headers(content_type))

    async def fetch(self, path: str) -> Answer:
        """As ``Upstream.fetch``."""
        return await self._ask("GET", path, b"", {})

    async def _ask(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> Answer:
        come = _scope.get(None)
        kept = [pair for pair in come["headers"] if pair[0] not in (*_OF_THE_BODY, _BINARY)] if come else []
        own = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        scope: Scope = {
            **(come or {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http"}),
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [*kept, *own, (b"content-length", b"%d" % len(body))],
            "state": dict(come.get("state", {})) if come else {},
        }
        heard = _Heard(body, self._max_body)
        try:
            await self._app(scope, heard.receive, heard.send)
        except AnswerError:
            raise
        except Exception as error:
            raise UpstreamError("the application failed", private=repr(error)) from error
        return heard.answer()


class _Heard:
    """One request's body for the application, and what that says."""

    def __init__(self, body: bytes, most: int) -> None:
        self._body: bytes | None = body
        self._left = self._most = most
        self._start: Message | None = None
        self._chunks: list[bytes] = []
        self._over = asyncio.Event()

    async def receive(self) -> Message:
        """The whole body, and then nothing until the answer is complete."""
        body, self._body = self._body, None
        if body is not None:
            return {"type": "http.request", "body": body, "more_body": False}
        await self._over.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Keep what is said."""
        if message["type"] == "http.response.start":
            self._start = message
        elif message["type"] == "http.response.body":
            self._chunks.append(bytes(message.get("body", b"")))
            self._left -= len(self._chunks[-1])
            if self._left < 0:
                raise AnswerError(f"the application's answer is larger than {self._most} bytes")
            if not message.get("more_body", False):
                self._over.set()

    def answer(self) -> Answer:
        """What was said.

        Raises:
            UpstreamError: nothing was, or not to the end.
            AnswerError: it is compressed, or of a type that cannot be handed on.
        """
        if self._start is None or not self._over.is_set():
            raise UpstreamError("the application broke off")
        headers = {name.lower().decode("latin-1"): value.decode("latin-1") for name, value in self._start["headers"]}
        if headers.get("content-encoding", "identity") != "identity":
            raise AnswerError("the application's answer is compressed, though it was not asked for")
        kind = headers.get("content-type", "application/octet-stream")
        if not (kind.isascii() and kind.isprintable()):
            raise AnswerError("the application's content type cannot be read")
        folded = wire.with_binary_length(kind, headers.get(wire.BINARY_HEADER.lower()))
        return Answer(int(self._start["status"]), folded, b"".join(self._chunks))


class TollMiddleware:
    """``app.add_middleware(TollMiddleware, settings="modeltoll.yaml")``: the same gate as the gateway's.

    The paths of the settings' models go through it; all others are the application's own, as if it were not there. Of
    the settings, ``upstream.url`` is ``app``; ``listen`` and ``admin`` have no meaning here. The ledger is opened with
    the application's lifespan, or with the first request where there is none.
    """

    def __init__(self, app: ASGIApp, settings: Settings | Path | str) -> None:
        """Read the settings and build the gate.

        Raises:
            SettingsError: everything in them that cannot be used, at once.
        """
        chosen = settings if isinstance(settings, Settings) else load_settings(Path(settings))
        self._app = app
        upstream = ApplicationUpstream(app, int(chosen.upstream.max_answer_mib * (1 << 20)))
        self._assembly = build_gateway(chosen, upstream)
        templates = {wire.REDEEM_PATH}
        for gate in self._assembly.gates.values():
            templates |= set(gate.road.subject.protocol.routes.infer)
        self._tolled = [compile_path(template)[0] for template in templates]
        self._opened = AsyncExitStack()
        self._is_open = False
        self._opening = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, self._living(send))
        elif scope["type"] == "http" and any(pattern.match(scope["path"]) for pattern in self._tolled):
            await self._open()
            token = _scope.set(scope)
            try:
                await self._assembly.public(dict(scope), receive, send)
            finally:
                _scope.reset(token)
        else:
            await self._app(scope, receive, send)

    def _living(self, send: Send) -> Send:
        """Open before the application says that it has started, close before it says that it has stopped."""

        async def sending(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                await self._open()
            elif message["type"].startswith("lifespan.shutdown"):
                await self.close()
            await send(message)

        return sending

    async def _open(self) -> None:
        if self._is_open:
            return
        async with self._opening:
            if not self._is_open:
                await self._opened.enter_async_context(self._assembly.opened())
                self._is_open = True

    async def close(self) -> None:
        """Close the ledger; for who runs the application without a lifespan."""
        self._is_open = False
        await self._opened.aclose()
