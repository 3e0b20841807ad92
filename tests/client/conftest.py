"""Two servers with tolls on real sockets, and drivers for httpx and httpx2, sync and async, requests and aiohttp."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import random
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import ModuleType

import aiohttp
import httpx
import httpx2
import pytest
import requests
import uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from modeltoll import wire
from modeltoll.client.aiohttp import TollMiddleware
from modeltoll.client.httpx import AsyncTollTransport, TollTransport
from modeltoll.client.requests import TollAdapter
from modeltoll.errors import TokenRefused, TollError
from modeltoll.puzzle import seal
from modeltoll.puzzle.counter import Sha256Counter
from modeltoll.records import Answer, MachineProfile, Work
from modeltoll.toll_records import Toll

RING = seal.KeyRing((b"k" * 32,))
UNIT = MachineProfile("unit", "work is counted in evaluations", 1.0, {256: 1.0})
KEY = "Bearer the-key-of-this-server"


def make_toll(answer, mode="sealed", evaluations=10.0, maker=None, receipt=b""):
    """A toll as the gateway makes it, for the caller with ``KEY``; with a receipt in its seal if one is given."""
    rng = random.Random(0)
    challenge, solution = (maker or Sha256Counter(UNIT)).make(Work(evaluations, 1, evaluations), rng)
    if mode == wire.SEALED:
        associated = wire.canonical_challenge(challenge, mode)
        payload = seal.seal_answer(answer, solution, associated, rng, receipt=receipt)
        return Toll(mode, challenge, payload, 1, 0.01, settles=bool(receipt))
    digest = seal.digest_proof(seal.proof_of(solution)) if solution and solution.secret else b""
    payload = seal.encrypt_token(RING, seal.RedeemClaim(answer, challenge, digest, 2e9, KEY, b"r" * 32), rng)
    return Toll(mode, challenge, payload, 1, 0.01)


def respond(toll, body=None, path="/infer", **headers):
    """A 402 with a toll for a request to ``path``, or with another body."""
    own = {
        "cache-control": "no-store",
        "www-authenticate": wire.format_authenticate(toll, "m"),
        "x-served-by": "toll server",
    }
    return Response(body or wire.encode_toll(toll, "toll", path), 402, own | headers, media_type="application/json")


@dataclass
class TollServer:
    """A server with handlers ``(request, body) -> Response`` by path.

    ``received`` records (method, path, headers, body) of every request.
    """

    handlers: dict = field(default_factory=dict)
    received: list = field(default_factory=list)
    url: str = ""
    tolls: int = 0

    async def answer(self, request):
        body = await request.body()
        self.received.append((request.method, request.url.path, dict(request.headers), body))
        handler = self.handlers.get(request.url.path)
        answer = Response("no such page", 404) if handler is None else handler(request, body)
        return await answer if inspect.isawaitable(answer) else answer

    def serve_toll(self, answer, path="/infer", **options):
        """Serve an answer for a toll, in the client's preferred mode; returns the URL."""

        def handler(request, _body):
            mode = wire.parse_accept(request.headers.get(wire.ACCEPT_HEADER, "")).mode
            return respond(make_toll(answer, mode, **options), path=path)

        self.handlers[path] = handler
        return self.url + path

    def serve_response(self, response, path="/infer"):
        """Serve one response; returns the URL."""
        self.handlers[path] = lambda _request, _body: response
        return self.url + path

    def redeem(self, request, body):
        """The redeem route of the real gateway."""
        redemption = wire.decode_redemption(body)
        try:
            claim = seal.decrypt_token(RING, redemption.token, request.headers.get("authorization", ""), 0.0)
            answer = seal.redeem_claim(claim, redemption)
        except TokenRefused as error:
            return Response(str(error), error.status)
        return Response(answer.body, answer.status, {"content-type": answer.content_type, "x-redeemed": "yes"})

    def settle(self, _request, body):
        """The settle route of the real gateway."""
        wire.decode_settlement(body)
        return Response(status_code=204)

    def serve_receipts(self, path="/infer", prefix=""):
        """Serve tolls with a new receipt in each seal (``1``, ``2``, ...); returns the URL."""

        def handler(_request, _body):
            self.tolls += 1
            receipt = str(self.tolls).encode()
            return respond(make_toll(Answer(200, "a/b", receipt), receipt=receipt), path=path)

        self.handlers[prefix + path] = handler
        return self.url + prefix + path

    def receipts(self):
        """Of each request in order: its path, and the receipts that it returned in its header or its body."""
        return [
            (
                path,
                wire.decode_settlement(body)
                if path.endswith(wire.SETTLE_PATH)
                else wire.parse_settle(headers.get("toll-settle", "")),
            )
            for _method, path, headers, body in self.received
        ]

    def reset(self):
        self.tolls = 0
        self.handlers = {wire.REDEEM_PATH: self.redeem, wire.SETTLE_PATH: self.settle}
        self.received = []
        return self

    def paths(self):
        """The paths of all requests, in order."""
        return [path for _method, path, _headers, _body in self.received]


def start(toll_server):
    """Run a server in a thread; returns a function that stops it."""
    app = Starlette(routes=[Route("/{path:path}", toll_server.answer, methods=["GET", "HEAD", "POST"])])
    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None, ws="none", http="h11"))
    sock = socket.create_server(("127.0.0.1", 0))
    toll_server.url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    thread = threading.Thread(target=server.run, args=([sock],))
    thread.start()

    def stop():
        server.should_exit = True
        thread.join(10)
        sock.close()

    return stop


@pytest.fixture(scope="session")
def _servers():
    servers = TollServer(), TollServer()
    stops = [start(toll_server) for toll_server in servers]
    yield servers
    for stop in stops:
        stop()


@pytest.fixture
def toll_server(_servers):
    """A server without routes but the redeem route."""
    return _servers[0].reset()


@pytest.fixture
def other_server(_servers):
    """A second server, on another origin."""
    return _servers[1].reset()


def in_own_loop(items):
    """The items of an async generator, one after the other, in an event loop of its own."""
    with asyncio.Runner() as runner:

        async def following():
            return await anext(items, None)

        try:
            while (item := runner.run(following())) is not None:
                yield item
        finally:
            runner.run(items.aclose())


@dataclass(frozen=True)
class HttpxDriver:
    """httpx or httpx2, sync or async."""

    library: ModuleType
    is_async: bool

    @property
    def disconnect_error(self):
        """The library's error if the server closes the connection in a response."""
        return self.library.RemoteProtocolError

    @property
    def timeout_error(self):
        """The library's error if the server stops sending."""
        return self.library.ReadTimeout

    def single_connection(self):
        """The library's transport with one connection."""
        return self.network(limits=self.library.Limits(max_connections=1))

    def network(self, **options):
        """The library's transport, without certificates, which are slow to load."""
        kind = self.library.AsyncHTTPTransport if self.is_async else self.library.HTTPTransport
        return kind(verify=False, **options)

    def toll(self, purse=None, inner=None):
        """The transport under test."""
        kind = AsyncTollTransport if self.is_async else TollTransport
        return kind(purse=purse, transport=inner or self.network())

    def send(self, transport, method, url, client=None, **request):
        """Send one request with a new client; returns the response, read."""
        if self.is_async:
            return asyncio.run(self._send(transport, method, url, client or {}, request))
        with self.library.Client(transport=transport, **(client or {})) as session:
            return session.request(method, url, **request)

    async def _send(self, transport, method, url, client, request):
        async with self.library.AsyncClient(transport=transport, **client) as session:
            return await session.request(method, url, **request)

    def errors_of(self, transport, urls, **request):
        """The type of error (or None) of one client for each URL, in order."""
        if self.is_async:
            return asyncio.run(self._refusals(transport, urls, request))
        raised = []
        with self.library.Client(transport=transport) as session:
            for url in urls:
                try:
                    session.get(url, **request)
                    raised.append(None)
                except TollError as error:
                    raised.append(type(error))
        return raised

    async def _refusals(self, transport, urls, request):
        raised = []
        async with self.library.AsyncClient(transport=transport) as session:
            for url in urls:
                try:
                    await session.get(url, **request)
                    raised.append(None)
                except TollError as error:
                    raised.append(type(error))
        return raised

    def contents_of(self, transport, urls, between=lambda: None, **request):
        """The bodies that one client gets for each URL, in order; ``between`` is called after each, in a thread."""
        if self.is_async:
            return asyncio.run(self._contents(transport, urls, between, request))
        got = []
        with self.library.Client(transport=transport, follow_redirects=True) as session:
            for url in urls:
                got.append(session.get(url, **request).content)
                between()
        return got

    async def _contents(self, transport, urls, between, request):
        got = []
        async with self.library.AsyncClient(transport=transport, follow_redirects=True) as session:
            for url in urls:
                got.append((await session.get(url, **request)).content)
                await asyncio.to_thread(between)
        return got

    def contents_at_once(self, transport, urls, start=lambda _: None, **request):
        """The same for calls of one client at once; ``start(index)`` is called before each, in a thread."""
        if self.is_async:
            return asyncio.run(self._contents_at_once(transport, urls, start, request))
        with self.library.Client(transport=transport) as session, ThreadPoolExecutor(len(urls)) as pool:

            def ask(index):
                start(index)
                return session.get(urls[index], **request).content

            return list(pool.map(ask, range(len(urls))))

    async def _contents_at_once(self, transport, urls, start, request):
        async with self.library.AsyncClient(transport=transport) as session:

            async def ask(index):
                await asyncio.to_thread(start, index)
                return (await session.get(urls[index], **request)).content

            return await asyncio.gather(*(ask(index) for index in range(len(urls))))

    def stream(self, transport, method, url, look):
        """The result of ``look(response)`` once the headers are there, and the raw chunks."""
        if self.is_async:
            return asyncio.run(self._stream(transport, method, url, look))
        with self.library.Client(transport=transport) as session, session.stream(method, url) as response:
            return look(response), list(response.iter_raw())

    def chunks(self, transport, url, **request):
        """The headers, and the chunks one after the other as a program that reads a stream gets them."""
        return self._chunks(transport, url, request) if self.is_async else self._chunks_sync(transport, url, request)

    def _chunks_sync(self, transport, url, request):
        with (
            self.library.Client(transport=transport) as session,
            session.stream("POST", url, **request) as response,
        ):
            yield response.headers
            yield from response.iter_raw()

    def _chunks(self, transport, url, request):
        async def main():
            async with (
                self.library.AsyncClient(transport=transport) as session,
                session.stream("POST", url, **request) as response,
            ):
                yield response.headers
                async for chunk in response.aiter_raw():
                    yield chunk

        return in_own_loop(main())

    async def _stream(self, transport, method, url, look):
        async with (
            self.library.AsyncClient(transport=transport) as session,
            session.stream(method, url) as response,
        ):
            return look(response), [chunk async for chunk in response.aiter_raw()]


@dataclass(frozen=True)
class DriverResponse:
    """A response, in the same form for every library."""

    status_code: int
    reason_phrase: str
    headers: object
    content: bytes
    url: str
    cookies: dict
    history: tuple = ()


class RequestsDriver:
    """requests, with an adapter."""

    disconnect_error = requests.exceptions.ChunkedEncodingError
    timeout_error = requests.exceptions.ConnectionError

    def network(self, **options):
        return requests.adapters.HTTPAdapter(**options)

    def single_connection(self):
        return self.network(pool_connections=1, pool_maxsize=1, pool_block=True)

    def toll(self, purse=None, inner=None):
        return TollAdapter(purse=purse, adapter=inner or self.network())

    def send(self, adapter, method, url, client=None, **request):
        with self._session(adapter) as session:
            return self._ask(session, method, url, client or {}, **request)

    def errors_of(self, adapter, urls, **request):
        raised = []
        with self._session(adapter) as session:
            for url in urls:
                try:
                    self._ask(session, "GET", url, {}, **request)
                    raised.append(None)
                except TollError as error:
                    raised.append(type(error))
        return raised

    def contents_of(self, adapter, urls, between=lambda: None, **request):
        got = []
        with self._session(adapter) as session:
            for url in urls:
                got.append(self._ask(session, "GET", url, {"follow_redirects": True}, **request).content)
                between()
        return got

    def contents_at_once(self, adapter, urls, start=lambda _: None, **request):
        with self._session(adapter) as session, ThreadPoolExecutor(len(urls)) as pool:

            def ask(index):
                start(index)
                return self._ask(session, "GET", urls[index], {}, **request).content

            return list(pool.map(ask, range(len(urls))))

    def chunks(self, adapter, url, *, content=None, timeout=None):
        with (
            self._session(adapter) as session,
            session.post(url, data=content, timeout=timeout, stream=True) as response,
        ):
            yield response.headers
            yield from response.iter_content(None)

    def _session(self, adapter):
        session = requests.Session()
        session.trust_env = False
        session.mount("http://", adapter)
        return session

    def _ask(self, session, method, url, client, *, content=None, headers=None, timeout=None):
        response = session.request(
            method,
            url,
            data=content,
            headers=headers,
            timeout=client.get("timeout", timeout),
            cookies=client.get("cookies"),
            allow_redirects=client.get("follow_redirects", False),
        )
        history = tuple(one.status_code for one in response.history)
        return DriverResponse(
            response.status_code,
            response.reason,
            response.headers,
            response.content,
            response.url,
            dict(response.cookies),
            history,
        )


class AiohttpDriver:
    """aiohttp, with a middleware; the transport is (middlewares, options of the session and its connector)."""

    disconnect_error = aiohttp.ClientPayloadError
    timeout_error = TimeoutError

    def network(self, **options):
        return [], options

    def single_connection(self):
        return self.network(limit=1)

    def toll(self, purse=None, inner=None):
        return [TollMiddleware(purse=purse)], inner[1] if inner else {}

    def send(self, transport, method, url, client=None, **request):
        async def main():
            async with self._session(transport, client or {}) as session:
                return await self._ask(session, method, url, client or {}, **request)

        return asyncio.run(main())

    def errors_of(self, transport, urls, **request):
        async def main():
            raised = []
            async with self._session(transport, {}) as session:
                for url in urls:
                    try:
                        await self._ask(session, "GET", url, {}, **request)
                        raised.append(None)
                    except TollError as error:
                        raised.append(type(error))
            return raised

        return asyncio.run(main())

    def contents_of(self, transport, urls, between=lambda: None, **request):
        async def main():
            got = []
            async with self._session(transport, {}) as session:
                for url in urls:
                    got.append((await self._ask(session, "GET", url, {"follow_redirects": True}, **request)).content)
                    await asyncio.to_thread(between)
            return got

        return asyncio.run(main())

    def contents_at_once(self, transport, urls, start=lambda _: None, **request):
        async def main():
            async with self._session(transport, {}) as session:

                async def ask(index):
                    await asyncio.to_thread(start, index)
                    return (await self._ask(session, "GET", urls[index], {}, **request)).content

                return await asyncio.gather(*(ask(index) for index in range(len(urls))))

        return asyncio.run(main())

    def chunks(self, transport, url, *, content=None, timeout=None):
        async def main():
            limit = aiohttp.ClientTimeout(sock_read=timeout)
            async with (
                self._session(transport, {}) as session,
                session.post(url, data=content, timeout=limit) as response,
            ):
                yield response.headers
                async for chunk in response.content.iter_any():
                    yield chunk

        return in_own_loop(main())

    @contextlib.asynccontextmanager
    async def _session(self, transport, client):
        middlewares, options = transport
        decompress = options.get("auto_decompress", True)
        limit = options.get("limit", 100)
        async with aiohttp.ClientSession(
            middlewares=middlewares,
            connector=aiohttp.TCPConnector(limit=limit),
            auto_decompress=decompress,
            cookies=client.get("cookies"),
        ) as session:
            yield session

    async def _ask(self, session, method, url, client, *, content=None, headers=None, timeout=None):  # noqa: ASYNC109
        limit = aiohttp.ClientTimeout(sock_read=client.get("timeout", timeout))
        follow = client.get("follow_redirects", False)
        async with session.request(
            method, url, data=content, headers=headers, timeout=limit, allow_redirects=follow
        ) as response:
            body = await response.read()
            cookies = {name: morsel.value for name, morsel in response.cookies.items()}
            history = tuple(one.status for one in response.history)
            return DriverResponse(
                response.status, response.reason, response.headers, body, str(response.url), cookies, history
            )


HTTPX_DRIVERS = {
    "httpx-sync": HttpxDriver(httpx, is_async=False),
    "httpx-async": HttpxDriver(httpx, is_async=True),
    "httpx2-sync": HttpxDriver(httpx2, is_async=False),
    "httpx2-async": HttpxDriver(httpx2, is_async=True),
}

OTHER_DRIVERS = {"requests": RequestsDriver(), "aiohttp": AiohttpDriver()}


@pytest.fixture(params=HTTPX_DRIVERS)
def driver(request):
    return HTTPX_DRIVERS[request.param]


@pytest.fixture(params=[*HTTPX_DRIVERS, *OTHER_DRIVERS])
def any_driver(request):
    """Every driver."""
    return (HTTPX_DRIVERS | OTHER_DRIVERS)[request.param]


@pytest.fixture(params=OTHER_DRIVERS)
def other_driver(request):
    """The drivers of requests and aiohttp."""
    return OTHER_DRIVERS[request.param]


@pytest.fixture
def key():
    """The authorization header with ``KEY``."""
    return {"authorization": KEY}


@pytest.fixture
def toll():
    """``toll(answer, mode, evaluations, maker)``: a toll as the gateway makes it."""
    return make_toll


@pytest.fixture
def toll_response():
    """``toll_response(toll, body)``: a 402 with the toll."""
    return respond


@pytest.fixture
def wait_until():
    """``wait_until(condition)``: poll until it is true, or fail after ten seconds."""

    def wait(condition):
        pause, end = threading.Event(), time.monotonic() + 10
        while not condition():
            assert time.monotonic() < end, "the condition did not become true"
            pause.wait(0.005)

    return wait
