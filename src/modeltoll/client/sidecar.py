"""The sidecar: a local HTTP proxy that pays the tolls of one API for programs in any language.

It sends requests to one upstream and to no other host. Responses other than tolls are streamed unchanged; API keys are
passed on, and kept only as long as a receipt is to be returned with them. ``GET /metrics`` returns the sidecar's own
metrics.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from modeltoll.client.event_streams import asks_for_events
from modeltoll.client.sidecar_access import SidecarAccess
from modeltoll.client.sidecar_metrics import SidecarMetrics
from modeltoll.client.sidecar_streams import AnnouncingMiddleware, WaitingProgram, is_event_stream, refusal
from modeltoll.errors import SettingsError, TollError
from modeltoll.wire import STATUS

if TYPE_CHECKING:
    from modeltoll.client.purse import Purse

__all__ = ["application", "serve", "upstream_url"]

_HOP_BY_HOP = frozenset(
    (
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)
_REPLACED = frozenset(("host", "expect", "accept-encoding"))  # replaced for the upstream
_AUTOMATIC = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")  # headers that aiohttp would add
_CONNECT_SECONDS = 30.0
_KEEP_SECONDS = 4.0  # below the 5 s after which common servers close an idle connection
_GRACE_SECONDS = 5.0
_MAX_BUFFERED = 1 << 20  # bytes of a request's body that can be sent again; larger bodies are streamed
_BAD_GATEWAY, _GATEWAY_TIMEOUT, _BAD_REQUEST, _FORBIDDEN = 502, 504, 400, 403


def upstream_url(text: str) -> URL:
    """The upstream's URL from the option ``--upstream``.

    Raises:
        SettingsError: not an http or https URL with a host, or it has a user, a password, a query or a fragment.
    """
    try:
        url = URL(text)
        reason = None if url.scheme in ("http", "https") and url.host else "is not an http:// or https:// URL"
    except ValueError:
        raise SettingsError([f"--upstream: {text!r} is not a URL"]) from None
    if reason is None and (url.user or url.password):
        reason = "has a user or password; let the programs send their own keys"
    if reason is None and (url.query_string or url.fragment):
        reason = "has a query or a fragment; leave it out"
    if reason is not None:
        raise SettingsError([f"--upstream: {text!r} {reason}"])
    return url


def _forwarded_headers(headers: Iterable[tuple[str, str]], excluded: frozenset[str] = frozenset()) -> CIMultiDict[str]:
    """The end-to-end headers without the ``excluded`` ones, in their order."""
    received = CIMultiDict(headers)
    named = {name.strip().lower() for line in received.getall("connection", ()) for name in line.split(",")}
    kept = ((name, value) for name, value in received.items() if name.lower() not in _HOP_BY_HOP | excluded | named)
    return CIMultiDict(kept)


async def _body(request: web.Request) -> bytes | aiohttp.StreamReader | None:
    """The request's body: bytes if it is short and of known length, so that it can be sent again, else a stream."""
    if not request.body_exists:
        return None
    if request.content_length is None or request.content_length > _MAX_BUFFERED:
        return request.content
    return await request.read()


class _PassedResponse(web.StreamResponse):
    """A response of the upstream. ``absent`` are the headers that it does not have and aiohttp would add."""

    def __init__(self, upstream_response: aiohttp.ClientResponse, headers: CIMultiDict[str]) -> None:
        super().__init__(status=upstream_response.status, reason=upstream_response.reason, headers=headers)
        self.absent = [name for name in ("Server", "Content-Type") if name not in headers]


async def _unchanged_response(_request: web.Request, response: web.StreamResponse) -> None:
    """Remove the headers that aiohttp added to a passed response."""
    if isinstance(response, _PassedResponse):
        for name in response.absent:
            response.headers.popall(name, None)


class _Sidecar:
    def __init__(self, upstream: URL, purse: Purse, metrics: SidecarMetrics, access: SidecarAccess) -> None:
        self._access = access
        self._base = str(upstream).rstrip("/")
        self._origin = str(upstream.origin())
        self._purse = purse
        self._metrics = metrics
        self._session: aiohttp.ClientSession | None = None

    async def client_session(self, _app: web.Application) -> AsyncIterator[None]:
        """Keep a client session open while the application runs."""
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_SECONDS),
            middlewares=[AnnouncingMiddleware(purse=self._purse)],
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),
            skip_auto_headers=_AUTOMATIC,
            auto_decompress=False,
        ) as self._session:
            yield

    async def metrics(self, request: web.Request) -> web.Response:
        """The response of ``GET /metrics``."""
        reason = self._reason_to_refuse(request)
        if reason is not None:
            return refusal(_FORBIDDEN, reason)
        return web.Response(body=self._metrics.render(), headers={"Content-Type": "text/plain; version=0.0.4"})

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Forward a request, pay its toll, and return the answer."""
        if not request.raw_path.startswith("/"):
            return refusal(_BAD_REQUEST, "this proxy serves paths of its upstream only")
        reason = self._reason_to_refuse(request)
        if reason is not None:
            return refusal(_FORBIDDEN, reason)
        outcome, program = "failed", WaitingProgram(request)
        try:
            async with self._send(request, await _body(request), program) as upstream_response:
                response = program.response or await self._start_response(request, upstream_response)
                if program.response is not None and not is_event_stream(upstream_response):
                    is_whole = await program.pass_on(upstream_response)
                else:
                    is_whole = await self._stream_body(request, upstream_response, response)
                outcome = "answered" if is_whole else "failed"
                return response
        except TollError as error:
            outcome = "refused"
            return await program.refuse(STATUS, str(error))  # not 5xx: programs would retry, and work again
        except TimeoutError:
            return await program.refuse(_GATEWAY_TIMEOUT, "the upstream did not answer in time")
        except (aiohttp.ClientError, OSError) as error:
            return await program.refuse(_BAD_GATEWAY, f"the upstream does not answer ({type(error).__name__})")
        finally:
            self._metrics.record_request(outcome)

    def _reason_to_refuse(self, request: web.Request) -> str | None:
        address = request.transport.get_extra_info("sockname") if request.transport is not None else None
        return self._access.refusal(request.headers, request.headers.getall("Host", ()), address[0] if address else "")

    def _send(
        self, request: web.Request, body: bytes | aiohttp.StreamReader | None, program: WaitingProgram
    ) -> contextlib.AbstractAsyncContextManager[aiohttp.ClientResponse]:
        headers = _forwarded_headers(request.headers.items(), _REPLACED)
        encodings = request.headers.get("Accept-Encoding", "").lower()
        headers["Accept-Encoding"] = "gzip" if "gzip" in encodings else "identity"  # a toll must be decodable
        assert self._session is not None  # client_session() runs before the first request
        answer = self._session.request(
            request.method,
            URL(self._base + request.raw_path, encoded=True),
            headers=headers,
            data=body,
            allow_redirects=False,
        )
        asks = asks_for_events(headers.get("Accept", ""), body if isinstance(body, bytes) else None)
        return program.wait(answer) if asks else answer

    async def _start_response(
        self, request: web.Request, upstream_response: aiohttp.ClientResponse
    ) -> web.StreamResponse:
        headers = _forwarded_headers(upstream_response.headers.items())
        location = headers.get("Location", "")
        if location.startswith(self._origin + "/"):  # a redirect to the upstream leads back to the sidecar
            headers["Location"] = location.removeprefix(self._origin)
        response = _PassedResponse(upstream_response, headers)
        await response.prepare(request)
        return response

    @staticmethod
    async def _stream_body(
        request: web.Request, upstream_response: aiohttp.ClientResponse, response: web.StreamResponse
    ) -> bool:
        """Stream the body; returns whether it was complete. An incomplete response closes the connection, so that it shows."""
        try:
            async for chunk in upstream_response.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
        except (aiohttp.ClientError, OSError):  # OSError: also timeouts, and programs that hung up
            if request.transport is not None:
                request.transport.abort()
            return False
        return True


def application(
    upstream: URL, purse: Purse, metrics: SidecarMetrics, access: SidecarAccess | None = None
) -> web.Application:
    """The sidecar as an application for an aiohttp server with ``auto_decompress=False``.

    ``access``: which host names and pages it serves; by default its own address and loopback names, and no page.
    """
    sidecar = _Sidecar(upstream, purse, metrics, access or SidecarAccess())
    app = web.Application(client_max_size=_MAX_BUFFERED)
    app.cleanup_ctx.append(sidecar.client_session)
    app.on_response_prepare.append(_unchanged_response)
    app.router.add_get("/metrics", sidecar.metrics)
    app.router.add_route("*", "/{path:.*}", sidecar.handle)
    return app


async def serve(app: web.Application, listening: socket.socket, ready: Callable[[], None] = lambda: None) -> None:
    """Serve until SIGINT or SIGTERM, then give running requests 5 seconds to end.

    ``ready`` is called once the server accepts connections.
    """
    runner = web.AppRunner(
        app, access_log=None, handler_cancellation=True, auto_decompress=False, shutdown_timeout=_GRACE_SECONDS
    )
    stopped, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    await runner.setup()
    try:
        await web.SockSite(runner, listening).start()
        ready()
        await stopped.wait()
    finally:
        await runner.cleanup()
