"""Two toll houses on real sockets, and the four ways to walk through them: httpx and httpx2, sync and async."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import threading
import time
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
from modeltoll.records import MachineProfile, Toll, Work

RING = seal.KeyRing((b"k" * 32,))
UNIT = MachineProfile("unit", "work is counted in evaluations", 1.0, {256: 1.0})
KEY = "Bearer the-key-of-this-house"


def make_toll(answer, mode="sealed", evaluations=10.0, maker=None):
    """A toll as the gateway makes it, for the caller who shows ``KEY``."""
    rng = random.Random(0)
    challenge, solution = (maker or Sha256Counter(UNIT)).make(Work(evaluations, 1, evaluations), rng)
    if mode == wire.SEALED:
        payload = seal.seal_answer(answer, solution, wire.canonical_challenge(challenge, mode), rng)
    else:
        digest = seal.digest_solution(solution.counters) if solution else b""
        payload = seal.seal_token(RING, seal.RedeemClaim(answer, challenge, digest, 2e9, KEY, b"r" * 32), rng)
    return Toll(mode, challenge, payload, 1, 0.01)


def respond(toll, body=None, **headers):
    """The 402 that carries a toll, or another body in its place."""
    own = {
        "cache-control": "no-store",
        "www-authenticate": wire.format_authenticate(toll, "m"),
        "x-served-by": "toll house",
    }
    return Response(body or wire.encode_toll(toll, "toll"), 402, own | headers, media_type="application/json")


@dataclass
class House:
    """A server whose routes are handlers ``(request, body) -> Response`` by path; ``seen`` is all that it was asked."""

    handlers: dict = field(default_factory=dict)
    seen: list = field(default_factory=list)
    url: str = ""

    async def answer(self, request):
        body = await request.body()
        self.seen.append((request.method, request.url.path, dict(request.headers), body))
        handler = self.handlers.get(request.url.path)
        return Response("no such page", 404) if handler is None else handler(request, body)

    def sell(self, answer, path="/infer", **options):
        """Ask a toll for an answer, in the mode that the client wishes; the URL."""

        def handler(request, _body):
            mode = wire.parse_accept(request.headers.get(wire.ACCEPT_HEADER, "")).mode
            return respond(make_toll(answer, mode, **options))

        self.handlers[path] = handler
        return self.url + path

    def say(self, response, path="/infer"):
        """Answer always the same; the URL."""
        self.handlers[path] = lambda _request, _body: response
        return self.url + path

    def redeem(self, request, body):
        """The redeem route of the real gateway."""
        token, counters = wire.decode_redemption(body)
        try:
            answer = seal.redeem_claim(
                seal.open_token(RING, token, request.headers.get("authorization", ""), 0.0), counters
            )
        except TokenRefused as error:
            return Response(str(error), error.status)
        return Response(answer.body, answer.status, {"content-type": answer.content_type, "x-redeemed": "yes"})

    def reset(self):
        self.handlers = {wire.REDEEM_PATH: self.redeem}
        self.seen = []
        return self

    def paths(self):
        """What was asked for, in order."""
        return [path for _method, path, _headers, _body in self.seen]


def start(house):
    """Serve a house from a thread of its own; returns how to stop it."""
    app = Starlette(routes=[Route("/{path:path}", house.answer, methods=["GET", "HEAD", "POST"])])
    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None, ws="none", http="h11"))
    sock = socket.create_server(("127.0.0.1", 0))
    house.url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    thread = threading.Thread(target=server.run, args=([sock],))
    thread.start()

    def stop():
        server.should_exit = True
        thread.join(10)
        sock.close()

    return stop


@pytest.fixture(scope="session")
def _pair():
    houses = House(), House()
    stops = [start(house) for house in houses]
    yield houses
    for stop in stops:
        stop()


@pytest.fixture
def house(_pair):
    """A toll house that sells nothing yet."""
    return _pair[0].reset()


@pytest.fixture
def neighbour(_pair):
    """A server on another origin."""
    return _pair[1].reset()


@dataclass(frozen=True)
class Way:
    """A library, sync or async."""

    library: ModuleType
    is_async: bool

    @property
    def died(self):
        """What the library raises where the server dies in the middle."""
        return self.library.RemoteProtocolError

    @property
    def silent(self):
        """What it raises where the server falls silent."""
        return self.library.ReadTimeout

    def narrow(self):
        """The library's own transport with one connection."""
        return self.network(limits=self.library.Limits(max_connections=1))

    def network(self, **options):
        """The library's own transport; without certificates, whose loading takes most of a test's time."""
        kind = self.library.AsyncHTTPTransport if self.is_async else self.library.HTTPTransport
        return kind(verify=False, **options)

    def toll(self, purse=None, inner=None):
        """The transport under test."""
        kind = AsyncTollTransport if self.is_async else TollTransport
        return kind(purse=purse, transport=inner or self.network())

    def send(self, transport, method, url, client=None, **request):
        """One request of a client of its own; the response, read."""
        if self.is_async:
            return asyncio.run(self._send(transport, method, url, client or {}, request))
        with self.library.Client(transport=transport, **(client or {})) as session:
            return session.request(method, url, **request)

    async def _send(self, transport, method, url, client, request):
        async with self.library.AsyncClient(transport=transport, **client) as session:
            return await session.request(method, url, **request)

    def refusals(self, transport, urls, **request):
        """What one client raises (or None) for each URL in turn."""
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

    def stream(self, transport, method, url, look):
        """What ``look(response)`` sees when the headers are there, and the raw chunks."""
        if self.is_async:
            return asyncio.run(self._stream(transport, method, url, look))
        with self.library.Client(transport=transport) as session, session.stream(method, url) as response:
            return look(response), list(response.iter_raw())

    async def _stream(self, transport, method, url, look):
        async with (
            self.library.AsyncClient(transport=transport) as session,
            session.stream(method, url) as response,
        ):
            return look(response), [chunk async for chunk in response.aiter_raw()]


@dataclass(frozen=True)
class Got:
    """What came back, as every library can tell it."""

    status_code: int
    reason_phrase: str
    headers: object
    content: bytes
    url: str
    cookies: dict
    history: tuple = ()


class RequestsWay:
    """requests, through an adapter."""

    died = requests.exceptions.ChunkedEncodingError
    silent = requests.exceptions.ConnectionError

    def network(self, **options):
        return requests.adapters.HTTPAdapter(**options)

    def narrow(self):
        return self.network(pool_connections=1, pool_maxsize=1, pool_block=True)

    def toll(self, purse=None, inner=None):
        return TollAdapter(purse=purse, adapter=inner or self.network())

    def send(self, adapter, method, url, client=None, **request):
        with self._session(adapter) as session:
            return self._ask(session, method, url, client or {}, **request)

    def refusals(self, adapter, urls, **request):
        raised = []
        with self._session(adapter) as session:
            for url in urls:
                try:
                    self._ask(session, "GET", url, {}, **request)
                    raised.append(None)
                except TollError as error:
                    raised.append(type(error))
        return raised

    def _session(self, adapter):
        session = requests.Session()
        session.trust_env = False
        session.mount("http://", adapter)
        return session

    def _ask(self, session, method, url, client, *, content=None, headers=None, timeout=None):
        came = session.request(
            method,
            url,
            data=content,
            headers=headers,
            timeout=client.get("timeout", timeout),
            cookies=client.get("cookies"),
            allow_redirects=client.get("follow_redirects", False),
        )
        past = tuple(one.status_code for one in came.history)
        return Got(came.status_code, came.reason, came.headers, came.content, came.url, dict(came.cookies), past)


class AiohttpWay:
    """aiohttp, through a middleware; the transport is (middlewares, options of the session and its connector)."""

    died = aiohttp.ClientPayloadError
    silent = TimeoutError

    def network(self, **options):
        return [], options

    def narrow(self):
        return self.network(limit=1)

    def toll(self, purse=None, inner=None):
        return [TollMiddleware(purse=purse)], inner[1] if inner else {}

    def send(self, transport, method, url, client=None, **request):
        async def main():
            async with self._session(transport, client or {}) as session:
                return await self._ask(session, method, url, client or {}, **request)

        return asyncio.run(main())

    def refusals(self, transport, urls, **request):
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
        ) as came:
            body = await came.read()
            cookies = {name: morsel.value for name, morsel in came.cookies.items()}
            past = tuple(one.status for one in came.history)
            return Got(came.status, came.reason, came.headers, body, str(came.url), cookies, past)


WAYS = {
    "httpx-sync": Way(httpx, is_async=False),
    "httpx-async": Way(httpx, is_async=True),
    "httpx2-sync": Way(httpx2, is_async=False),
    "httpx2-async": Way(httpx2, is_async=True),
}

OTHERS = {"requests": RequestsWay(), "aiohttp": AiohttpWay()}


@pytest.fixture(params=WAYS)
def way(request):
    return WAYS[request.param]


@pytest.fixture(params=[*WAYS, *OTHERS])
def any_way(request):
    """Through any of the drivers."""
    return (WAYS | OTHERS)[request.param]


@pytest.fixture(params=OTHERS)
def other_way(request):
    """Through requests and aiohttp."""
    return OTHERS[request.param]


@pytest.fixture
def key():
    """The header of the one caller whom the house knows."""
    return {"authorization": KEY}


@pytest.fixture
def toll():
    """``toll(answer, mode, evaluations, maker)``: a toll as the gateway makes it."""
    return make_toll


@pytest.fixture
def reply():
    """``reply(toll, body)``: the 402 that carries it."""
    return respond


@pytest.fixture
def wait_until():
    """``wait_until(condition)``: look again and again, or fail after ten seconds."""

    def wait(condition):
        pause, end = threading.Event(), time.monotonic() + 10
        while not condition():
            assert time.monotonic() < end, "it did not happen"
            pause.wait(0.005)

    return wait
