"""requests and aiohttp pay as httpx does; without a toll they are as they are without a driver."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import aiohttp
import pytest
import requests
from starlette.responses import RedirectResponse, Response, StreamingResponse

from modeltoll import wire
from modeltoll.client.aiohttp import TollMiddleware
from modeltoll.client.purse import Purse
from modeltoll.client.requests import TollAdapter
from modeltoll.puzzle.counter import Argon2idCounter
from modeltoll.records import Answer, MachineProfile
from modeltoll.toll_records import Challenge, Part, Toll

BODY = bytes(range(256)) * 3
ANSWER = Answer(200, "application/x-tensor; a=1", BODY)
REDEEM = {wire.ACCEPT_HEADER: "sha256; mode=redeem"}
OFFER = json.dumps({"error": "payment required", "price": {"usd": 5}}).encode()
COOKIE = {"set-cookie": "a=1; Path=/", "x-own": "yes"}
PACKED = {"content-encoding": "gzip"}
UNIT = MachineProfile("unit", "an evaluation takes a second", 1.0, {256: 1.0})
ENDLESS = Toll("sealed", Challenge("sha256", (Part(b"s" * 16, 2**46 - 1, b"\0" * 16),)), b"", 1, 1.0)


def broken_off():
    async def later():
        yield b"half"
        raise ConnectionError("the model server died")

    return later()


def chunked(*chunks):
    async def later():
        for chunk in chunks:
            yield chunk

    return later()


ORDINARY = {
    "plain": lambda: Response(b"hello", 200, COOKIE, "text/plain"),
    "nothing": lambda: Response(status_code=204),
    "packed": lambda: Response(gzip.compress(b"hello" * 99), 200, PACKED, "text/plain"),
    "in chunks": lambda: StreamingResponse(chunked(b"one", b"two"), 200, COOKIE, "text/plain"),
    "broken off": lambda: StreamingResponse(broken_off(), 200, {"content-length": "9"}, "text/plain"),
    "redirect": lambda: RedirectResponse("/", 302, COOKIE),
    "failed": lambda: Response(b"no", 500, {"retry-after": "3"}),
    "money, in HTML": lambda: Response(b"<p>five dollars</p>", 402, COOKIE, "text/html"),
    "money, in JSON": lambda: Response(OFFER, 402, COOKIE | {"etag": '"5"'}, "application/json"),
    "money, packed": lambda: Response(gzip.compress(OFFER), 402, PACKED | COOKIE, "application/problem+json"),
    "money, in chunks": lambda: StreamingResponse(chunked(OFFER[:9], OFFER[9:]), 402, None, "application/json"),
    "money, badly packed": lambda: Response(b"no gzip", 402, PACKED, "application/json"),
    "money, broken off": lambda: StreamingResponse(broken_off(), 402, {"content-length": "9"}, "application/json"),
    "money, no words": lambda: Response(b"", 402, None, "application/json"),
}


def outcome(driver, transport, method, url):
    """All that a caller can tell of what came back."""
    try:
        got = driver.send(transport, method, url, client={"follow_redirects": True})
    except (requests.RequestException, aiohttp.ClientError) as error:
        return type(error)
    headers = sorted((name.lower(), value) for name, value in got.headers.items() if name.lower() != "date")
    return got.status_code, got.reason_phrase, headers, got.content, got.url, got.cookies, got.history


@pytest.mark.parametrize("method", ["POST", "HEAD"])
@pytest.mark.parametrize("case", ORDINARY)
def test_an_ordinary_answer_is_the_same_with_and_without(other_driver, toll_server, case, method):
    toll_server.handlers["/infer"] = lambda _request, _body: ORDINARY[case]()
    purse = Purse()
    with_toll = outcome(other_driver, other_driver.toll(purse), method, toll_server.url + "/infer")
    asked = toll_server.received.copy()
    assert with_toll == outcome(other_driver, other_driver.network(), method, toll_server.url + "/infer")
    assert purse.payments == ()
    plain = toll_server.received[len(asked) :]
    for _, _, headers, _ in asked:
        assert headers.pop("toll-accept")
        assert headers["accept-encoding"] == "gzip, deflate"  # the codings in which a toll can be read
    for (_, _, headers, _), (_, _, others, _) in zip(asked, plain, strict=True):
        headers["accept-encoding"] = others["accept-encoding"]
    assert asked == plain


def test_a_sealed_answer_arrives_byte_for_byte_after_one_request(other_driver, toll_server):
    purse = Purse()
    got = other_driver.send(other_driver.toll(purse), "POST", toll_server.serve_toll(ANSWER), content=b"row")
    assert (got.status_code, got.reason_phrase, got.content) == (200, "OK", BODY)
    assert (got.headers["content-type"], got.headers["content-length"]) == (ANSWER.content_type, str(len(BODY)))
    assert [(path, body) for _, path, _, body in toll_server.received] == [("/infer", b"row")]
    assert [(paid.puzzle, paid.mode, paid.rows) for paid in purse.payments] == [("sha256", "sealed", 1)]


def test_a_redeemed_answer_arrives_as_if_it_had_come_at_once(other_driver, toll_server, key):
    purse = Purse()
    url = toll_server.serve_toll(ANSWER) + "?q=1"
    got = other_driver.send(other_driver.toll(purse), "POST", url, content=b"row", headers=key | REDEEM)
    assert (got.status_code, got.content, got.url) == (200, BODY, url)
    assert got.headers["x-redeemed"] == "yes"
    assert toll_server.paths() == ["/infer", wire.REDEEM_PATH]
    assert [paid.mode for paid in purse.payments] == ["redeem"]


def test_a_redemption_carries_the_callers_credentials_and_cookies_but_not_its_body(other_driver, toll_server, key):
    url = toll_server.serve_toll(ANSWER)
    headers = key | REDEEM | {"cookie": "a=b", "x-api-key": "k", "content-type": "text/csv", "range": "bytes=0-1"}
    assert other_driver.send(other_driver.toll(), "POST", url, content=b"row", headers=headers).content == BODY
    method, path, sent, body = toll_server.received[-1]
    assert (method, path, sent["content-type"]) == ("POST", wire.REDEEM_PATH, "application/json")
    assert (sent["authorization"], sent["cookie"], sent["x-api-key"]) == (key["authorization"], "a=b", "k")
    assert (set(json.loads(body)), sent["content-length"]) == ({"token", "proof"}, str(len(body)))
    assert not {"range", "transfer-encoding"} & set(sent)


def test_a_body_that_can_be_sent_once_is_sent_once(other_driver, toll_server, key):
    async def later():
        yield b"one,"
        yield b"two"

    parts = iter((b"one,", b"two")) if other_driver.disconnect_error.__module__.startswith("requests") else later()
    assert other_driver.send(
        other_driver.toll(), "POST", toll_server.serve_toll(ANSWER), content=parts, headers=key | REDEEM
    ).content
    assert [body for _, path, _, body in toll_server.received if path == "/infer"] == [b"one,two"]


@pytest.mark.parametrize("answer", [Answer(201, "", b""), Answer(503, "text/plain", b"no"), Answer(200, "a/b", b"x")])
def test_status_type_and_body_are_the_answers_whatever_they_are(other_driver, toll_server, answer):
    got = other_driver.send(other_driver.toll(), "GET", toll_server.serve_toll(answer))
    assert (got.status_code, got.content) == (answer.status, answer.body)
    assert got.headers.get("content-type", "") == answer.content_type


def test_headers_of_the_toll_go_and_all_others_stay(other_driver, toll_server, toll, toll_response):
    sold = toll_response(toll(ANSWER), etag='"toll"')
    sold.raw_headers += [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]
    got = other_driver.send(other_driver.toll(), "GET", toll_server.serve_response(sold))
    assert not {"www-authenticate", "cache-control", "etag"} & {name.lower() for name in got.headers}
    assert got.headers["x-served-by"] == "toll server"
    assert got.cookies == {"a": "1", "b": "2"}


def test_a_toll_that_was_compressed_on_its_way_is_opened(other_driver, toll_server, toll, toll_response):
    packed = gzip.compress(wire.encode_toll(toll(ANSWER), "toll", "/infer"))
    url = toll_server.serve_response(toll_response(toll(ANSWER), packed, **PACKED))
    got = other_driver.send(other_driver.toll(), "GET", url)
    assert (got.content, "content-encoding" in got.headers) == (BODY, False)


def test_a_session_that_does_not_decompress_pays_too(toll_server, toll, toll_response):
    packed = gzip.compress(wire.encode_toll(toll(ANSWER), "toll", "/infer"))
    url = toll_server.serve_response(toll_response(toll(ANSWER), packed, **PACKED))
    money = toll_server.serve_response(Response(gzip.compress(OFFER), 402, PACKED, "application/json"), "/money")

    async def main():
        async with (
            aiohttp.ClientSession(middlewares=[TollMiddleware()], auto_decompress=False) as session,
            session.get(url) as opened,
            session.get(money) as asked,
        ):
            return await opened.read(), gzip.decompress(await asked.read())

    assert asyncio.run(main()) == (BODY, OFFER)


def test_a_large_answer_is_opened(other_driver, toll_server):
    body = random.Random(1).randbytes(3 << 20)
    assert (
        other_driver.send(other_driver.toll(), "GET", toll_server.serve_toll(Answer(200, "a/b", body))).content == body
    )


def test_a_toll_behind_a_redirect_is_redeemed_where_it_was_asked(other_driver, toll_server, other_server, key):
    """Credentials do not follow to another origin, so that server does not know the caller."""
    other_server.serve_toll(ANSWER)
    toll_server.serve_response(RedirectResponse(other_server.url + "/infer"), "/old")
    driver = other_driver
    got = driver.send(
        driver.toll(), "GET", toll_server.url + "/old", headers=REDEEM | key, client={"follow_redirects": True}
    )
    assert (got.status_code, got.history) == (403, (307,))
    assert (toll_server.paths(), other_server.paths()) == (["/old"], ["/infer", wire.REDEEM_PATH])
    assert all("authorization" not in headers for _, _, headers, _ in other_server.received)


def test_a_toll_accept_header_of_the_caller_is_kept(other_driver, toll_server):
    other_driver.send(other_driver.toll(), "GET", toll_server.url + "/a", headers=REDEEM)
    other_driver.send(other_driver.toll(Purse(memory_kib=3 * 1024)), "GET", toll_server.url + "/a")
    accept_headers = [headers["toll-accept"] for _, _, headers, _ in toll_server.received]
    assert accept_headers == ["sha256; mode=redeem", "argon2id, sha256; mode=sealed; memory=3MiB; receipts"]


def test_a_refused_connection_is_the_librarys_own_error(other_driver):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/"
    errors = [
        outcome(other_driver, transport, "GET", url) for transport in (other_driver.toll(), other_driver.network())
    ]
    assert errors[0] is errors[1] is not None


def test_an_adapters_retries_work(toll_server):
    """Retries belong to the adapter inside; a toll is no failure that it tries again."""
    left = [Response(b"busy", 503, {"retry-after": "0"}), Response(b"served")]
    toll_server.handlers["/infer"] = lambda _request, _body: left.pop(0)
    retries = requests.packages.urllib3.Retry(1, status_forcelist=[503])
    session = requests.Session()
    session.mount("http://", TollAdapter(adapter=requests.adapters.HTTPAdapter(max_retries=retries)))
    with session:
        assert session.get(toll_server.url + "/infer").content == b"served"
        assert session.get(toll_server.serve_toll(ANSWER)).content == BODY
    assert toll_server.paths() == ["/infer"] * 3


def test_a_response_of_requests_is_whole(toll_server):
    with requests.Session() as session:
        session.mount("http://", TollAdapter())
        got = session.post(
            toll_server.serve_toll(Answer(200, "application/json; charset=utf-8", b'{"a": 1}')), json={}, stream=True
        )
        assert (got.encoding, got.request.method, got.ok) == ("utf-8", "POST", True)
        assert b"".join(got.iter_content(3)) == b'{"a": 1}'
        assert session.post(toll_server.url + "/infer", json={}).json() == {"a": 1}


def test_a_response_of_aiohttp_is_whole(toll_server):
    url = toll_server.serve_toll(Answer(200, "application/json", b'{"a": 1}'))

    async def main():
        async with aiohttp.ClientSession(middlewares=[TollMiddleware()], raise_for_status=True) as session:
            async with session.post(url) as got:
                assert (got.content_type, got.method, got.ok) == ("application/json", "POST", True)
                assert (b"Content-Type", b"application/json") in got.raw_headers
                assert b"".join([chunk async for chunk in got.content.iter_chunked(3)]) == b'{"a": 1}'
            async with session.post(url) as got:
                assert await got.json() == {"a": 1}

    asyncio.run(main())


@pytest.mark.parametrize("status", [200, 402])
def test_a_stream_comes_through_as_it_is_sent(toll_server, status):
    """The second half is sent only when the first has reached the caller."""
    arrived = threading.Event()

    async def halves():
        yield b"one"
        assert await asyncio.to_thread(arrived.wait, 10)
        yield b"two"

    toll_server.handlers["/infer"] = lambda _request, _body: StreamingResponse(halves(), status, media_type="text/html")
    with requests.Session() as session:
        session.mount("http://", TollAdapter())
        chunks = session.get(toll_server.url + "/infer", stream=True).iter_content(None)
        assert next(chunks) == b"one"
        arrived.set()
        assert list(chunks) == [b"two"]
    arrived.clear()

    async def main():
        async with (
            aiohttp.ClientSession(middlewares=[TollMiddleware()]) as session,
            session.get(toll_server.url + "/infer") as got,
        ):
            assert await got.content.readany() == b"one"
            arrived.set()
            assert await got.content.readany() == b"two"

    asyncio.run(main())


def test_threads_share_one_adapter(toll_server):
    for number in range(8):
        toll_server.serve_toll(Answer(200, "a/b", str(number).encode()), f"/{number}", evaluations=500.0)
    purse = Purse()
    with requests.Session() as session, ThreadPoolExecutor(8) as pool:
        session.mount("http://", TollAdapter(purse=purse))
        got = list(pool.map(lambda number: session.get(f"{toll_server.url}/{number % 8}").content, range(32)))
    assert got == [str(number % 8).encode() for number in range(32)]
    assert len(purse.payments) == 32


def test_the_loop_goes_on_while_work_is_done(toll_server):
    """The solver waits for the loop before it goes on, and never in vain."""
    url = toll_server.serve_toll(ANSWER, evaluations=300.0, maker=Argon2idCounter(UNIT, ladder=[256]))
    ticked, looks = threading.Event(), []

    def progress(done, _most):
        ticked.clear()
        looks.append(done)
        assert ticked.wait(10)

    async def tick():
        while True:
            await asyncio.sleep(0.001)
            ticked.set()

    async def main():
        middleware = TollMiddleware(purse=Purse(float("inf"), progress=progress))
        ticking = asyncio.create_task(tick())
        async with aiohttp.ClientSession(middlewares=[middleware]) as session, session.get(url) as got:
            assert await got.read() == BODY
        ticking.cancel()

    asyncio.run(main())
    assert len(looks) > 2


def test_cancelling_the_call_ends_the_work(toll_server, toll_response, wait_until):
    url = toll_server.serve_response(toll_response(ENDLESS))
    work_started = threading.Event()
    purse = Purse(float("inf"), max_seconds_per_hour=2.0**50, progress=lambda *_: work_started.set())
    middleware = TollMiddleware(purse=purse)

    async def main():
        async with aiohttp.ClientSession(middlewares=[middleware]) as session:
            call = asyncio.ensure_future(session.get(url))
            assert await asyncio.to_thread(work_started.wait, 10)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call

    asyncio.run(main())
    middleware._workers.shutdown()  # waits for the work to end
    assert purse.payments == ()


def test_aiohttps_total_time_out_counts_the_work(toll_server, toll_response):
    url = toll_server.serve_response(toll_response(ENDLESS))

    async def main():
        middleware = TollMiddleware(float("inf"))
        async with aiohttp.ClientSession(middlewares=[middleware]) as session:
            with pytest.raises(TimeoutError):
                await session.get(url, timeout=aiohttp.ClientTimeout(total=0.2))
        middleware._workers.shutdown()

    asyncio.run(main())


def test_a_redemption_that_is_cut_off_is_not_begun_anew(toll_server, key):
    """aiohttp repeats an idempotent request whose connection breaks; then a toll would be paid twice."""
    purse = Purse()
    url = toll_server.serve_toll(ANSWER)

    async def cut(request, handler):
        if request.url.path == wire.REDEEM_PATH:
            raise aiohttp.ServerDisconnectedError
        return await handler(request)

    async def main():
        async with aiohttp.ClientSession(middlewares=[TollMiddleware(purse=purse), cut]) as session:
            with pytest.raises(aiohttp.ClientConnectionError, match="is paid, but"):
                await session.get(url, headers=key | REDEEM)

    asyncio.run(main())
    assert len(purse.payments) == 1
    assert toll_server.paths() == ["/infer"]


def test_importing_any_driver_needs_no_numpy():
    code = (
        "import sys, modeltoll.client.requests, modeltoll.client.sidecar; "
        "print([m for m in ('numpy', 'scipy', 'starlette', 'httpx', 'uvicorn', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
