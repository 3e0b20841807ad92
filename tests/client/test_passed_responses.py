"""Responses other than tolls are the same as without the transport."""

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


def outcome(driver, transport, method, url, **request):
    """Everything that a caller can see of a response."""
    try:
        response = driver.send(transport, method, url, client={"follow_redirects": True}, **request)
    except driver.library.HTTPError as error:
        return type(error), str(error), error.request.method, error.request.url
    assert response.elapsed.total_seconds() > 0
    headers = [(name, value) for name, value in response.headers.raw if name.lower() != b"date"]
    first_part = (response.status_code, response.reason_phrase, response.http_version, headers, response.content)
    around = (response.url, response.encoding, dict(response.cookies), response.num_bytes_downloaded)
    return *first_part, *around, sorted(response.extensions), [redirect.status_code for redirect in response.history]


@pytest.mark.parametrize("method", ["POST", "HEAD"])
@pytest.mark.parametrize("case", ANSWERS)
def test_a_response_without_toll_is_the_same_with_and_without_the_transport(driver, toll_server, case, method):
    toll_server.handlers["/infer"] = lambda _request, _body: ANSWERS[case]()
    purse = Purse()
    with_toll = outcome(driver, driver.toll(purse), method, toll_server.url + "/infer")
    asked = toll_server.received.copy()
    without = outcome(driver, driver.network(), method, toll_server.url + "/infer")
    assert with_toll == without
    assert purse.payments == ()
    plain = toll_server.received[len(asked) :]
    for _, _, headers, _ in asked:
        assert headers.pop("toll-accept")
        assert headers["accept-encoding"] == "gzip, deflate"  # the codings in which a toll can be read
    for (_, _, headers, _), (_, _, others, _) in zip(asked, plain, strict=True):
        headers["accept-encoding"] = others["accept-encoding"]
    assert asked == plain


@pytest.mark.parametrize("body", [b"bytes", {"form": "a"}, None], ids=["bytes", "form", "once"])
def test_a_request_is_sent_unchanged(driver, toll_server, body):
    def once():
        yield b"one"
        yield b"two"

    async def once_later():
        yield b"one"
        yield b"two"

    def request():
        if isinstance(body, dict):
            return {"data": body}
        return {"content": body or (once_later() if driver.is_async else once())}

    toll_server.serve_response(Response(b"ok"))
    for transport in (driver.toll(), driver.network()):
        driver.send(transport, "POST", toll_server.url + "/infer?a=b%20c", headers={"X-Own": "yes"}, **request())
    paid, plain = toll_server.received
    assert paid[2].pop("toll-accept")
    assert paid[2].pop("accept-encoding") in plain[2].pop("accept-encoding")
    assert paid == plain


@pytest.mark.parametrize(("status", "kind"), [(200, "text/plain"), (402, "text/html"), (500, "application/json")])
def test_a_stream_is_passed_on_as_it_is_sent(driver, toll_server, status, kind):
    """The second half is sent only when the headers have reached the caller."""
    arrived = threading.Event()

    async def halves():
        yield b"one"
        assert await asyncio.to_thread(arrived.wait, 10)
        yield b"two"

    toll_server.handlers["/infer"] = lambda _request, _body: StreamingResponse(halves(), status, media_type=kind)
    seen, chunks = driver.stream(driver.toll(), "GET", toll_server.url + "/infer", lambda _response: arrived.set())
    assert (seen, b"".join(chunks)) == (None, b"onetwo")


def test_a_402_that_is_no_toll_is_streamed(driver, toll_server):
    toll_server.serve_response(Response(gzip.compress(OFFER), 402, PACKED, "application/json"))
    closed, chunks = driver.stream(
        driver.toll(), "GET", toll_server.url + "/infer", lambda response: response.is_closed
    )
    assert (closed, gzip.decompress(b"".join(chunks))) == (False, OFFER)


def test_a_refused_connection_is_the_librarys_own_error(driver):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/"
    errors = [outcome(driver, transport, "GET", url) for transport in (driver.toll(), driver.network())]
    assert errors[0] == errors[1]
    assert errors[0][0] is driver.library.ConnectError
    retrying = driver.toll(inner=driver.network(retries=1))
    assert outcome(driver, retrying, "GET", url)[0] is driver.library.ConnectError


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 402 Payment Required\r\nContent-Type: application/json\r\n\r\n{"])
def test_a_timeout_is_the_librarys_own_error(driver, said):
    """A server that sends nothing, and one that stops in the middle of a 402."""
    with socket.create_server(("127.0.0.1", 0)) as slow:
        url = f"http://127.0.0.1:{slow.getsockname()[1]}/"
        timeout_error = threading.Thread(target=stop_sending, args=(slow, said))
        timeout_error.start()
        options = {"client": {"timeout": 0.1}, "headers": {"connection": "close"}}
        with pytest.raises(driver.library.ReadTimeout) as caught:
            driver.send(driver.toll(), "GET", url, **options)
        assert caught.value.request.url == url
    timeout_error.join(10)


def stop_sending(server, said):
    connection, _ = server.accept()
    with connection:
        connection.recv(4096)
        connection.sendall(said)
        while connection.recv(4096):
            pass


def test_cookies_and_authentication_of_the_client_work(driver, toll_server):
    toll_server.handlers["/infer"] = lambda request, _body: Response(
        request.headers.get("authorization", ""), 200, SET_COOKIE
    )
    response = driver.send(
        driver.toll(), "GET", toll_server.url + "/infer", client={"auth": ("user", "word"), "cookies": {"c": "d"}}
    )
    assert response.text.startswith("Basic ")
    assert toll_server.received[0][2]["cookie"] == "c=d"
    assert toll_server.received[0][2][wire.ACCEPT_HEADER.lower()]
