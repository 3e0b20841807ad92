"""Receipts reach the gateway: with the next request, when the client is idle, and when it closes; and nobody notices."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import subprocess
import sys
import threading
import time
from dataclasses import replace

import aiohttp
import anyio
import httpx
import pytest
import requests
from starlette.responses import RedirectResponse, Response, StreamingResponse

from modeltoll import wire
from modeltoll.client import settling
from modeltoll.client.aiohttp import TollMiddleware
from modeltoll.client.httpx import AsyncTollTransport, TollTransport
from modeltoll.client.purse import Purse
from modeltoll.client.requests import TollAdapter
from modeltoll.records import Answer

REDEEM = {wire.ACCEPT_HEADER: "sha256; mode=redeem"}
SETTLE = wire.SETTLE_PATH


@pytest.fixture
def soon(monkeypatch):
    """An idle time of 50 ms."""
    monkeypatch.setattr(settling, "IDLE_SECONDS", 0.05)


@pytest.fixture
def never(monkeypatch):
    """A client that is never idle."""
    monkeypatch.setattr(settling, "IDLE_SECONDS", 1000.0)


@pytest.mark.usefixtures("never")
def test_a_receipt_goes_with_the_next_request_and_the_last_one_at_the_end(any_driver, toll_server, key):
    """One more request in all, when the client closes."""
    url = toll_server.serve_receipts()
    headers = key | {"x-api-key": "k", "cookie": "a=b", "x-own": "1"}
    assert any_driver.contents_of(any_driver.toll(), [url] * 3, headers=headers) == [b"1", b"2", b"3"]
    assert toll_server.receipts() == [
        ("/infer", ()),
        ("/infer", (b"1",)),
        ("/infer", (b"2",)),
        (SETTLE, (b"3",)),
    ]
    method, _, sent, _ = toll_server.received[-1]
    assert (method, sent["authorization"], sent["x-api-key"]) == ("POST", key["authorization"], "k")
    assert sent["content-type"] == "application/json"
    assert not {"cookie", "x-own", "toll-accept", "toll-settle"} & set(sent)


@pytest.mark.usefixtures("soon")
def test_receipts_are_posted_when_the_client_is_idle(any_driver, toll_server, key, wait_until):
    """And then nothing is left to post at the end."""
    url = toll_server.serve_receipts()

    def settled():
        wait_until(lambda: toll_server.paths()[-1] == SETTLE)

    assert any_driver.contents_of(any_driver.toll(), [url] * 2, settled, headers=key) == [b"1", b"2"]
    assert toll_server.receipts() == [("/infer", ()), (SETTLE, (b"1",)), ("/infer", ()), (SETTLE, (b"2",))]


@pytest.mark.usefixtures("never")
def test_receipts_below_a_prefix_go_there(any_driver, toll_server):
    url = toll_server.serve_receipts(prefix="/eu")
    other = toll_server.serve_response(Response(b"other"), "/other")
    toll_server.handlers["/eu" + SETTLE] = toll_server.settle
    any_driver.contents_of(any_driver.toll(), [url, other])
    assert toll_server.receipts() == [("/eu/infer", ()), ("/other", ()), ("/eu" + SETTLE, (b"1",))]


@pytest.mark.usefixtures("never")
def test_a_receipt_that_was_sent_with_a_request_for_metadata_is_sent_again(any_driver, toll_server, key):
    """A gateway passes such a request on and reads no receipts; no header of its answer says that it did."""
    url, ready = toll_server.serve_receipts(), toll_server.serve_response(Response(b"ready"), "/v2/health/ready")
    got = any_driver.contents_of(any_driver.toll(), [url, ready, url], headers=key)
    assert got == [b"1", b"ready", b"2"]
    assert toll_server.receipts()[1:] == [("/v2/health/ready", (b"1",)), ("/infer", (b"1",)), (SETTLE, (b"2",))]


@pytest.mark.usefixtures("never")
def test_no_receipt_goes_to_another_origin(any_driver, toll_server, other_server, key):
    """Also not when the request that returns it is redirected there."""
    url = toll_server.serve_receipts()
    other = other_server.serve_response(Response(b"other"))
    away = toll_server.serve_response(RedirectResponse(other), "/away")
    assert any_driver.contents_of(any_driver.toll(), [url, other, away], headers=key)[1:] == [b"other"] * 2
    assert toll_server.receipts() == [("/infer", ()), ("/away", (b"1",)), (SETTLE, (b"1",))]
    assert other_server.paths() == ["/infer", "/infer"]
    assert all("toll-settle" not in headers for _, _, headers, _ in other_server.received)


@pytest.mark.usefixtures("never")
def test_receipts_of_a_request_that_fails_are_returned_with_the_next(any_driver, toll_server, key):
    """A time-out, and a server that is down."""
    url, over = toll_server.serve_receipts(), threading.Event()

    async def stuck(_request, _body):
        await asyncio.to_thread(over.wait, 10)
        return Response(b"late")

    toll_server.handlers["/stuck"] = stuck
    down = toll_server.serve_response(Response(b"down", 503), "/down")
    purse = Purse()
    with pytest.raises((any_driver.timeout_error, requests.exceptions.ReadTimeout)):
        any_driver.contents_of(
            any_driver.toll(purse), [url, down, toll_server.url + "/stuck"], headers=key, timeout=0.3
        )
    over.set()
    carried = [taken for path, taken in toll_server.receipts() if path in ("/down", "/stuck")]
    assert carried == [(b"1",), (b"1",)]
    assert toll_server.receipts()[-1] == (SETTLE, (b"1",))
    assert len(purse.receipts) == 0


@pytest.mark.usefixtures("never")
def test_a_client_without_receipts_redeems_and_settles_nothing(any_driver, toll_server, key):
    url = toll_server.serve_toll(Answer(200, "a/b", b"body"))
    assert any_driver.contents_of(any_driver.toll(), [url] * 2, headers=key | REDEEM) == [b"body"] * 2
    assert toll_server.receipts() == [("/infer", ()), (wire.REDEEM_PATH, ())] * 2


@pytest.mark.usefixtures("never")
@pytest.mark.parametrize("answer", ["hangs", "drips", "refuses", "fails", "redirects"])
def test_a_gateway_that_takes_no_receipts_is_not_noticed(any_driver, toll_server, other_server, answer):
    """Closing raises nothing and takes at most two seconds. What may succeed later is kept by the purse."""
    over = threading.Event()

    async def hang(_request, _body):
        await asyncio.to_thread(over.wait, 10)
        return Response(status_code=204)

    async def drip():
        while not over.is_set():
            yield b" "
            await asyncio.sleep(0.05)

    toll_server.handlers[SETTLE] = {
        "hangs": hang,
        "drips": lambda *_: Response(status_code=204) if over.is_set() else StreamingResponse(drip()),
        "refuses": lambda *_: Response(b"no", 404),
        "fails": lambda *_: Response(b"no", 500),
        "redirects": lambda *_: RedirectResponse(other_server.url + SETTLE),
    }[answer]
    purse, began = Purse(), time.monotonic()
    assert any_driver.contents_of(any_driver.toll(purse), [toll_server.serve_receipts()]) == [b"1"]
    assert time.monotonic() - began < 5.0  # 1.5 s, on a machine with much other work
    over.set()
    assert (SETTLE, (b"1",)) in toll_server.receipts()
    assert other_server.received == []
    if answer in ("hangs", "fails"):
        threading.Event().wait(0.1)
        assert len(purse.receipts) == 1
    else:
        assert len(purse.receipts) == 0


class Gate:
    """A gateway that asks for admission until it has the receipt of the slow toll."""

    def __init__(self, toll_server, toll, toll_response):
        self.batch_asked = threading.Event()
        self.slow_asked = threading.Event()
        self.settled = False
        sealed = toll(Answer(200, "a/b", b"slow"), evaluations=2.0, receipt=b"slow")
        admission = replace(toll(Answer(200, "a/b", b"late"), "redeem"), admission=True)

        def slow(_request, _body):
            self.slow_asked.set()
            return toll_response(sealed, path="/slow")

        def batch(request, _body):
            self.settled |= b"slow" in wire.parse_settle(request.headers.get("toll-settle", ""))
            if self.settled:
                return Response(b"batch", headers={"toll-receipt": "rows=1; work=0; mode=free"})
            self.batch_asked.set()
            return toll_response(admission, path="/batch")

        toll_server.handlers |= {"/slow": slow, "/batch": batch}
        self.urls = [toll_server.url + "/slow", toll_server.url + "/batch"]


@pytest.mark.usefixtures("never")
def test_a_call_finishes_earlier_tolls_before_it_pays_for_admission(any_driver, toll_server, toll, toll_response, key):
    """The slow toll is solved only once the batch has its toll; then the batch comes without admission."""
    gate = Gate(toll_server, toll, toll_response)
    # The other thread reads its toll meanwhile; else the slow call may end first, and return its receipt by itself.
    purse = Purse(progress=lambda *_: gate.batch_asked.wait(10) and threading.Event().wait(0.3))
    got = any_driver.contents_at_once(
        any_driver.toll(purse), gate.urls, lambda index: index == 0 or gate.slow_asked.wait(10), headers=key
    )
    assert got == [b"slow", b"batch"]
    assert [payment.mode for payment in purse.payments] == ["sealed"]
    assert toll_server.receipts() == [("/slow", ()), ("/batch", ()), ("/batch", (b"slow",))]


@pytest.mark.usefixtures("never")
def test_a_caller_that_works_alone_returns_its_receipts_and_never_waits(any_driver, toll_server, toll, toll_response):
    gate = Gate(toll_server, toll, toll_response)
    purse = Purse()
    assert any_driver.contents_of(any_driver.toll(purse), gate.urls) == [b"slow", b"batch"]
    assert toll_server.receipts() == [("/slow", ()), ("/batch", (b"slow",))]


@pytest.mark.parametrize("library", ["httpx", "aiohttp"])
@pytest.mark.usefixtures("never")
def test_a_cancelled_call_leaves_nothing_behind(toll_server, toll, toll_response, library, key):
    """While it solves, while it waits for other tolls, and while it returns receipts."""
    gate, asked, over = Gate(toll_server, toll, toll_response), threading.Event(), threading.Event()

    async def stuck(_request, _body):
        asked.set()
        await asyncio.to_thread(over.wait, 10)
        return Response(b"late")

    toll_server.handlers["/stuck"] = stuck
    working = threading.Event()
    purse = Purse(progress=lambda *_: working.set() or over.wait(10))

    async def main():
        async with client_of(library, purse) as get:
            solving = asyncio.ensure_future(get(gate.urls[0], key))
            assert await asyncio.to_thread(working.wait, 10)
            waiting = asyncio.ensure_future(get(gate.urls[1], key))
            assert await asyncio.to_thread(gate.batch_asked.wait, 10)
            await asyncio.sleep(0.1)
            account = next(iter(purse.receipts._flights))
            purse.receipts.add(account, SETTLE, b"kept")
            returning = asyncio.ensure_future(get(toll_server.url + "/stuck", key))
            assert await asyncio.to_thread(asked.wait, 10)
            assert len(purse.receipts) == 0
            for call in (solving, waiting, returning):
                call.cancel()
            done = await asyncio.gather(solving, waiting, returning, return_exceptions=True)
            assert all(isinstance(error, asyncio.CancelledError) for error in done)
            assert purse.receipts._flights == {}
            assert [one.receipt for one in purse.receipts.take_for_request(account, "/")] == [b"kept"]
        over.set()

    asyncio.run(main())
    assert purse.payments == ()


@contextlib.asynccontextmanager
async def client_of(library, purse):
    """A client, as a function that gets a URL."""
    inner = httpx.AsyncHTTPTransport(verify=False)
    client = (
        httpx.AsyncClient(transport=AsyncTollTransport(purse=purse, transport=inner))
        if library == "httpx"
        else aiohttp.ClientSession(middlewares=[TollMiddleware(purse=purse)])
    )
    async with client:

        async def get(url, headers):
            return await client.get(url, headers=headers)

        yield get


BACKENDS = ["asyncio", *(["trio"] if importlib.util.find_spec("trio") else [])]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("ends", ["idle", "close", "hang"])
def test_receipts_are_posted_on_either_kind_of_loop(toll_server, monkeypatch, backend, ends):
    monkeypatch.setattr(settling, "IDLE_SECONDS", 0.05 if ends == "idle" else 1000.0)
    url, over = toll_server.serve_receipts(), threading.Event()

    async def hang(_request, _body):
        await asyncio.to_thread(over.wait, 10)
        return Response(status_code=204)

    if ends == "hang":
        toll_server.handlers[SETTLE] = hang

    async def main():
        inner = httpx.AsyncHTTPTransport(verify=False)
        async with httpx.AsyncClient(transport=AsyncTollTransport(transport=inner)) as client:
            for number in (1, 2):
                assert (await client.get(url)).text == str(number)
                end = time.monotonic() + 10
                while ends == "idle" and toll_server.paths()[-1] != SETTLE and time.monotonic() < end:  # noqa: ASYNC110
                    await anyio.sleep(0.01)

    began = time.monotonic()
    anyio.run(main, backend=backend)
    assert time.monotonic() - began < 5.0
    over.set()
    settled = [("/infer", ()), (SETTLE, (b"1",)), ("/infer", ()), (SETTLE, (b"2",))]
    returned = [("/infer", ()), ("/infer", (b"1",)), (SETTLE, (b"2",))]
    assert toll_server.receipts() == (settled if ends == "idle" else returned)


@pytest.mark.usefixtures("never")
@pytest.mark.filterwarnings("ignore:BasicAuth is deprecated", "ignore:The 'auth' parameter is deprecated")
def test_a_session_with_its_own_authentication_and_headers_settles_with_the_credentials_of_the_request(toll_server):
    """Of aiohttp, which refuses a header beside ``auth``; the session's other headers and cookies stay out."""
    url = toll_server.serve_receipts()

    async def main():
        async with aiohttp.ClientSession(
            middlewares=[TollMiddleware()],
            auth=aiohttp.BasicAuth("user", "word"),
            headers={"X-Own": "1"},
            cookies={"a": "b"},
            raise_for_status=True,
        ) as session:
            assert await (await session.get(url)).read() == b"1"

    asyncio.run(main())
    (_, _, asked, _), (_, path, sent, _) = toll_server.received
    assert (path, sent["authorization"]) == (SETTLE, asked["authorization"])
    assert not {"x-own", "cookie"} & set(sent)


@pytest.mark.usefixtures("never")
def test_sessions_share_a_middleware(toll_server):
    """Each posts its own receipts when it closes."""
    url = toll_server.serve_receipts()

    async def main():
        middleware = TollMiddleware()
        async with aiohttp.ClientSession(middlewares=[middleware]) as outer:
            await outer.get(url, headers={"authorization": "one"})
            async with aiohttp.ClientSession(middlewares=[middleware]) as inner:
                await inner.get(url, headers={"authorization": "two"})
            assert toll_server.receipts()[-1] == (SETTLE, (b"2",))
        assert outer.closed

    asyncio.run(main())
    assert toll_server.receipts()[-1] == (SETTLE, (b"1",))


@pytest.mark.usefixtures("never")
def test_a_session_may_have_a_middleware_for_each_request(toll_server):
    """More than Python nests calls; they share a purse, and the last receipt is posted at the end."""
    url, purse = toll_server.serve_response(Response(b"plain"), "/plain"), Purse()
    paid = toll_server.serve_receipts()

    async def main():
        async with aiohttp.ClientSession() as session:
            kept = [TollMiddleware(purse=purse) for _ in range(1100)]
            for middleware in kept:
                middleware._settler(session)
            assert await (await session.get(url, middlewares=kept[:1])).read() == b"plain"
            assert await (await session.get(paid, middlewares=kept[-1:])).read() == b"1"
        assert session.closed

    asyncio.run(main())
    assert toll_server.receipts() == [("/plain", ()), ("/infer", ()), (SETTLE, (b"1",))]


@pytest.mark.usefixtures("never")
def test_clients_share_a_purse_and_its_receipts(toll_server, key):
    """What one client opened, the next request of another returns."""
    url, purse = toll_server.serve_receipts(), Purse()
    first = httpx.Client(transport=TollTransport(purse=purse), headers=key)
    with first, requests.Session() as second:
        second.mount("http://", TollAdapter(purse=purse))
        assert first.get(url).content == b"1"
        assert second.get(url, headers=key).content == b"2"
    assert toll_server.receipts() == [("/infer", ()), ("/infer", (b"1",)), (SETTLE, (b"2",))]


@pytest.mark.usefixtures("soon")
def test_at_most_one_thread_settles_and_it_ends(toll_server, wait_until):
    url, of_others = toll_server.serve_receipts(), set(threading.enumerate())

    def settling_threads():
        return [each for each in threading.enumerate() if each.name == "modeltoll-settling" and each not in of_others]

    with httpx.Client(transport=TollTransport()) as client:
        client.get(url)
        client.get(url)
        (thread,) = settling_threads()
        assert thread.daemon
        wait_until(lambda: not settling_threads())
        assert toll_server.paths()[-1] == SETTLE
        client.get(url)
        wait_until(lambda: toll_server.receipts()[-1] == (SETTLE, (b"3",)))


@pytest.mark.usefixtures("soon")
def test_an_event_loop_may_end_before_its_receipts_are_posted(toll_server):
    """A client that is not closed, on a loop that ends: no error and no warning; the next loop posts them."""
    url = toll_server.serve_receipts()
    transport = AsyncTollTransport(transport=httpx.AsyncHTTPTransport(verify=False))

    async def ask():
        request = httpx.Request("GET", url, headers={"connection": "close"})
        return await (await transport.handle_async_request(request)).aread()

    async def ask_and_close():
        await ask()
        await transport.aclose()

    assert anyio.run(ask) == b"1"
    anyio.run(ask_and_close)
    assert toll_server.receipts() == [("/infer", ()), ("/infer", (b"1",)), (SETTLE, (b"2",))]


UNCLOSED = """
import sys, requests
from modeltoll.client.requests import TollAdapter
session = requests.Session()
session.mount("http://", TollAdapter())
print(session.get(sys.argv[1]).text)
"""


@pytest.mark.parametrize("hangs", [False, True])
def test_a_program_that_never_closes_its_client_settles_as_it_ends(toll_server, hangs):
    """And it ends, whatever the gateway does."""
    over = threading.Event()

    async def hang(_request, _body):
        await asyncio.to_thread(over.wait, 30)
        return Response(status_code=204)

    if hangs:
        toll_server.handlers[SETTLE] = hang
    command = [sys.executable, "-W", "error", "-c", UNCLOSED, toll_server.serve_receipts()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    over.set()
    assert (done.stdout, done.stderr) == ("1\n", "")
    assert toll_server.receipts() == [("/infer", ()), (SETTLE, (b"1",))]
