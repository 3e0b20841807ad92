"""A server that asks no toll: everything is as it is without the transport."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import threading

import pytest
from starlette.responses import RedirectResponse, Response, StreamingResponse

from modeltoll import wire
from modeltoll.client.purse import Purse

OFFER = json.dumps({"error": "payment required", "price": {"usd": 5}}).encode()
SET_COOKIE = {"set-cookie": "a=1; Path=/", "x-own": "yes"}
PACKED = {"content-encoding": "gzip"}


def chunked(*chunks):
    async def later():
        for chunk in chunks:
            yield chunk

    return later()


def broken_off():
    async def later():
        yield b"half"
        raise ConnectionError("the model server died")

    return later()


ANSWERS = {
    "plain": lambda: Response(b"hello", 200, SET_COOKIE, "text/plain"),
    "json": lambda: Response(b'{"a": 1}', 201, media_type="application/json"),
    "nothing": lambda: Response(status_code=204),
    "packed": lambda: Response(gzip.compress(b"hello" * 99), 200, PACKED, "text/plain"),
    "badly packed": lambda: Response(b"no gzip", 200, PACKED, "text/plain"),
    "in chunks": lambda: StreamingResponse(chunked(b"one", b"two"), 200, SET_COOKIE, "text/plain"),
    "broken off": lambda: StreamingResponse(broken_off(), 200, {"content-length": "9"}, "text/plain"),
    "redirect": lambda: RedirectResponse("/", 302, SET_COOKIE),
    "endless redirect": lambda: RedirectResponse("/infer"),
    "not found": lambda: Response(b"no", 404, SET_COOKIE),
    "failed": lambda: Response(b"no", 500, {"retry-after": "3"}),
    "money, in HTML": lambda: Response(b"<p>five dollars</p>", 402, SET_COOKIE, "text/html"),
    "money, in JSON": lambda: Response(OFFER, 402, SET_COOKIE | {"etag": '"5"'}, "application/json"),
    "money, packed": lambda: Response(gzip.compress(OFFER), 402, PACKED | SET_COOKIE, "application/problem+json"),
    "money, in chunks": lambda: StreamingResponse(chunked(OFFER[:9], OFFER[9:]), 402, None, "application/json"),
    "money, badly packed": lambda: Response(b"no gzip", 402, PACKED, "application/json"),
    "money, no JSON": lambda: Response(b"five dollars", 402, None, "application/json"),
    "money, many numbers": lambda: Response(b"[" + b"0," * 20_000 + b"0]", 402, None, "application/json"),
    "money, broken off": lambda: StreamingResponse(broken_off(), 402, {"content-length": "9"}, "application/json"),
    "money, no words": lambda: Response(b"", 402, None, "application/json"),
}


def outcome(way, transport, method, url, **request):
    """All that a caller can tell of what came back."""
    try:
        response = way.send(transport, method, url, client={"follow_redirects": True}, **request)
    except way.library.HTTPError as error:
        return type(error), str(error), error.request.method, error.request.url
    assert response.elapsed.total_seconds() > 0
    headers = [(name, value) for name, value in response.headers.raw if name.lower() != b"date"]
    came = (response.status_code, response.reason_phrase, response.http_version, headers, response.content)
    around = (response.url, response.encoding, dict(response.cookies), response.num_bytes_downloaded)
    return *came, *around, sorted(response.extensions), [past.status_code for past in response.history]


@pytest.mark.parametrize("method", ["POST", "HEAD"])
@pytest.mark.parametrize("case", ANSWERS)
def test_an_ordinary_answer_is_the_same_with_and_without(way, house, case, method):
    house.handlers["/infer"] = lambda _request, _body: ANSWERS[case]()
    purse = Purse()
    with_toll = outcome(way, way.toll(purse), method, house.url + "/infer")
    asked = house.seen.copy()
    without = outcome(way, way.network(), method, house.url + "/infer")
    assert with_toll == without
    assert purse.payments == ()
    for _, _, headers, _ in asked:
        assert headers.pop("toll-accept")
    assert asked == house.seen[len(asked) :]


@pytest.mark.parametrize("body", [b"bytes", {"form": "a"}, None], ids=["bytes", "form", "once"])
def test_a_request_arrives_as_it_was_made(way, house, body):
    def once():
        yield b"one"
        yield b"two"

    async def once_later():
        yield b"one"
        yield b"two"

    def request():
        if isinstance(body, dict):
            return {"data": body}
        return {"content": body or (once_later() if way.is_async else once())}

    house.say(Response(b"ok"))
    for transport in (way.toll(), way.network()):
        way.send(transport, "POST", house.url + "/infer?a=b%20c", headers={"X-Own": "yes"}, **request())
    paid, plain = house.seen
    assert paid[2].pop("toll-accept")
    assert paid == plain


@pytest.mark.parametrize(("status", "kind"), [(200, "text/plain"), (402, "text/html"), (500, "application/json")])
def test_a_stream_comes_through_as_it_is_sent(way, house, status, kind):
    """The second half is sent only when the headers have reached the caller."""
    arrived = threading.Event()

    async def halves():
        yield b"one"
        assert await asyncio.to_thread(arrived.wait, 10)
        yield b"two"

    house.handlers["/infer"] = lambda _request, _body: StreamingResponse(halves(), status, media_type=kind)
    seen, chunks = way.stream(way.toll(), "GET", house.url + "/infer", lambda _response: arrived.set())
    assert (seen, b"".join(chunks)) == (None, b"onetwo")


def test_an_offer_of_money_can_be_streamed_too(way, house):
    house.say(Response(gzip.compress(OFFER), 402, PACKED, "application/json"))
    closed, chunks = way.stream(way.toll(), "GET", house.url + "/infer", lambda response: response.is_closed)
    assert (closed, gzip.decompress(b"".join(chunks))) == (False, OFFER)


def test_a_refused_connection_is_the_librarys_own_error(way):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/"
    errors = [outcome(way, transport, "GET", url) for transport in (way.toll(), way.network())]
    assert errors[0] == errors[1]
    assert errors[0][0] is way.library.ConnectError
    retrying = way.toll(inner=way.network(retries=1))
    assert outcome(way, retrying, "GET", url)[0] is way.library.ConnectError


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 402 Payment Required\r\nContent-Type: application/json\r\n\r\n{"])
def test_a_time_out_is_the_librarys_own_error(way, said):
    """A server that says nothing, and one that falls silent in the middle of a 402."""
    with socket.create_server(("127.0.0.1", 0)) as slow:
        url = f"http://127.0.0.1:{slow.getsockname()[1]}/"
        silent = threading.Thread(target=fall_silent, args=(slow, said))
        silent.start()
        options = {"client": {"timeout": 0.1}, "headers": {"connection": "close"}}
        with pytest.raises(way.library.ReadTimeout) as caught:
            way.send(way.toll(), "GET", url, **options)
        assert caught.value.request.url == url
    silent.join(10)


def fall_silent(server, said):
    connection, _ = server.accept()
    with connection:
        connection.recv(4096)
        connection.sendall(said)
        while connection.recv(4096):
            pass


def test_cookies_and_authentication_of_the_client_work(way, house):
    house.handlers["/infer"] = lambda request, _body: Response(
        request.headers.get("authorization", ""), 200, SET_COOKIE
    )
    response = way.send(
        way.toll(), "GET", house.url + "/infer", client={"auth": ("user", "word"), "cookies": {"c": "d"}}
    )
    assert response.text.startswith("Basic ")
    assert house.seen[0][2]["cookie"] == "c=d"
    assert house.seen[0][2][wire.ACCEPT_HEADER.lower()]
