"""The sidecar: a proxy that pays tolls for any program in any language.

It listens for programs, asks one upstream, and never any other host. What is no toll streams through as it came; keys
pass through and are kept nowhere. ``GET /metrics`` is its own page.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from prometheus_client import CollectorRegistry, Counter, generate_latest
from yarl import URL

from modeltoll.client.aiohttp import TollMiddleware
from modeltoll.errors import SettingsError, TollError
from modeltoll.wire import STATUS

if TYPE_CHECKING:
    from modeltoll.client.purse import Payment, Purse

__all__ = ["SidecarMetrics", "application", "serve", "upstream_url"]

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
_ANEW = frozenset(("host", "expect", "accept-encoding"))  # written anew for the upstream
_AUTOMATIC = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")  # what aiohttp would add of its own
_CONNECT_SECONDS = 30.0
_KEEP_SECONDS = 4.0  # below the 5 s after which common servers close an idle connection
_GRACE_SECONDS = 5.0
_GATEWAY, _TIMEOUT, _WRONG = 502, 504, 400


def upstream_url(text: str) -> URL:
    """The address to ask, checked.

    Raises:
        SettingsError: not an http or https address of a host, or it holds a password, a query or a fragment.
    """
    try:
        url = URL(text)
        fault = None if url.scheme in ("http", "https") and url.host else "is no http:// or https:// address"
    except ValueError:
        raise SettingsError([f"--upstream: {text!r} is no address"]) from None
    if fault is None and (url.user or url.password):
        fault = "holds a user or password; keys belong to the programs that ask"
    if fault is None and (url.query_string or url.fragment):
        fault = "holds a query or a fragment"
    if fault is not None:
        raise SettingsError([f"--upstream: {text!r} {fault}"])
    return url


class SidecarMetrics:
    """What the sidecar counts; no key, path or payload is ever in it. ``paid`` is for a purse to call."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "modeltoll_proxy_requests", "Requests by how they ended", ["outcome"], registry=self._registry
        )
        self._tolls = Counter("modeltoll_proxy_tolls", "Tolls paid", ["puzzle", "mode"], registry=self._registry)
        self._rows = Counter("modeltoll_proxy_rows", "Rows bought with tolls", registry=self._registry)
        self._work = Counter(
            "modeltoll_proxy_work_seconds", "Expected reference seconds of the tolls paid", registry=self._registry
        )
        self._waiting = Counter(
            "modeltoll_proxy_solving_seconds", "Seconds that solving them took", registry=self._registry
        )

    def paid(self, payment: Payment) -> None:
        """Count a payment."""
        self._tolls.labels(payment.puzzle, payment.mode).inc()
        self._rows.inc(payment.rows)
        self._work.inc(payment.expected)
        self._waiting.inc(payment.seconds)

    def ended(self, outcome: str) -> None:
        """Count a request: ``answered``, ``refused`` (its toll was not paid) or ``failed`` (no answer)."""
        self._requests.labels(outcome).inc()

    def page(self) -> bytes:
        """The text of ``/metrics``."""
        return generate_latest(self._registry)


def _passing(headers: Iterable[tuple[str, str]], besides: frozenset[str] = frozenset()) -> CIMultiDict[str]:
    """The headers that are for the other end, in their order."""
    came = CIMultiDict(headers)
    named = {name.strip().lower() for line in came.getall("connection", ()) for name in line.split(",")}
    kept = ((name, value) for name, value in came.items() if name.lower() not in _HOP_BY_HOP | besides | named)
    return CIMultiDict(kept)


def _refusal(status: int, reason: str) -> web.Response:
    return web.Response(status=status, text=json.dumps({"error": reason}), content_type="application/json")


class _PassedResponse(web.StreamResponse):
    """An answer of the upstream's. ``bare``: what it came without, and shall go without."""

    def __init__(self, came: aiohttp.ClientResponse, headers: CIMultiDict[str]) -> None:
        super().__init__(status=came.status, reason=came.reason, headers=headers)
        self.bare = [name for name in ("Server", "Content-Type") if name not in headers]


async def _unchanged_response(_request: web.Request, response: web.StreamResponse) -> None:
    """Take back what aiohttp adds of its own accord."""
    if isinstance(response, _PassedResponse):
        for name in response.bare:
            response.headers.popall(name, None)


class _Sidecar:
    def __init__(self, upstream: URL, purse: Purse, meters: SidecarMetrics) -> None:
        self._base = str(upstream).rstrip("/")
        self._origin = str(upstream.origin())
        self._purse = purse
        self._meters = meters
        self._session: aiohttp.ClientSession | None = None

    async def opened(self, _app: web.Application) -> AsyncIterator[None]:
        """Hold the connections to the upstream as long as the application runs."""
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_SECONDS),
            middlewares=[TollMiddleware(purse=self._purse)],
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),
            skip_auto_headers=_AUTOMATIC,
            auto_decompress=False,
        ) as self._session:
            yield

    async def metrics(self, _request: web.Request) -> web.Response:
        """The sidecar's own page."""
        return web.Response(body=self._meters.page(), headers={"Content-Type": "text/plain; version=0.0.4"})

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Pass a request on, and its answer back."""
        if not request.raw_path.startswith("/"):
            return _refusal(_WRONG, "this proxy serves paths of its upstream only")
        outcome = "failed"
        try:
            async with self._asked(request) as came:
                response = await self._begun(request, came)
                if await self._streamed(request, came, response):
                    outcome = "answered"
                return response
        except TollError as error:
            outcome = "refused"
            return _refusal(STATUS, str(error))  # no 5xx: programs would try again, and work again
        except TimeoutError:
            return _refusal(_TIMEOUT, "the upstream did not answer in time")
        except (aiohttp.ClientError, OSError) as error:
            return _refusal(_GATEWAY, f"the upstream does not answer ({type(error).__name__})")
        finally:
            self._meters.ended(outcome)

    def _asked(self, request: web.Request) -> contextlib.AbstractAsyncContextManager[aiohttp.ClientResponse]:
        headers = _passing(request.headers.items(), _ANEW)
        packed = request.headers.get("Accept-Encoding", "").lower()
        headers["Accept-Encoding"] = "gzip" if "gzip" in packed else "identity"  # a toll must be readable
        assert self._session is not None  # opened() runs before the first request
        return self._session.request(
            request.method,
            URL(self._base + request.raw_path, encoded=True),
            headers=headers,
            data=request.content if request.body_exists else None,
            allow_redirects=False,
        )

    async def _begun(self, request: web.Request, came: aiohttp.ClientResponse) -> web.StreamResponse:
        headers = _passing(came.headers.items())
        location = headers.get("Location", "")
        if location.startswith(self._origin + "/"):  # a program that follows it comes back here
            headers["Location"] = location.removeprefix(self._origin)
        response = _PassedResponse(came, headers)
        await response.prepare(request)
        return response

    @staticmethod
    async def _streamed(request: web.Request, came: aiohttp.ClientResponse, response: web.StreamResponse) -> bool:
        """Whether all of the body came and was taken; half an answer must not look like a whole one."""
        try:
            async for chunk in came.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
        except (aiohttp.ClientError, OSError):  # OSError: also time-outs, and programs that left
            if request.transport is not None:
                request.transport.abort()
            return False
        return True


def application(upstream: URL, purse: Purse, meters: SidecarMetrics) -> web.Application:
    """The sidecar, for any aiohttp server that does not decompress what it receives."""
    sidecar = _Sidecar(upstream, purse, meters)
    app = web.Application()
    app.cleanup_ctx.append(sidecar.opened)
    app.on_response_prepare.append(_unchanged_response)
    app.router.add_get("/metrics", sidecar.metrics)
    app.router.add_route("*", "/{path:.*}", sidecar.handle)
    return app


async def serve(app: web.Application, listening: socket.socket, ready: Callable[[], None] = lambda: None) -> None:
    """Serve until SIGINT or SIGTERM, then give what runs a few seconds to end."""
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
