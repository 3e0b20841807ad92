"""A misbehaving model server gives an error of the error tree, and its answer is discarded."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading

import httpx
import pytest

from modeltoll.errors import AnswerError, UpstreamError, UpstreamTimeout
from modeltoll.gateway.public.app import application
from modeltoll.gateway.upstream.body_payload import body_payload
from modeltoll.gateway.upstream.http_upstream import HttpUpstream
from modeltoll.testing.model_servers import scripted_server

LIMIT = 1000
SECRET = b"scores-4711"


def reply(body=SECRET, status="200 OK", *lines, length=None):
    length = len(body) if length is None else length
    head = [f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {length}", *lines, "", ""]
    return "\r\n".join(head).encode() + body


def chunked(*chunks):
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n" for chunk in chunks)


async def predict(url, patience=20.0):
    upstream = HttpUpstream(url, timeout=patience, max_body=LIMIT)
    await upstream.open()
    try:
        return await upstream.predict("/v2/models/digits/infer", b"{}")
    finally:
        await upstream.close()


SCRIPTS = {
    "hangs up at once": ([], UpstreamError),
    "hangs up in the head": ([b"HTTP/1.1 200 OK\r\nContent-"], UpstreamError),
    "hangs up in the body": ([reply(length=500)], UpstreamError),
    "hangs up between chunks": ([chunked(SECRET)], UpstreamError),
    "speaks another protocol": ([b"SSH-2.0-OpenSSH_9.6\r\n"], UpstreamError),
    "counts chunks in nonsense": ([chunked()[:-2] + b"\r\nxyz\r\n"], UpstreamError),
    "claims a broken length": ([reply().replace(b"Content-Length: 11", b"Content-Length: eleven")], UpstreamError),
    "answers compressed": ([reply(SECRET, "200 OK", "Content-Encoding: gzip")], AnswerError),
    "answers too much": ([reply(SECRET * 100)], AnswerError),
    "answers too much in chunks": ([chunked(*[SECRET] * 100, b"")], AnswerError),
    "has a content type of no alphabet": ([reply().replace(b"application/json", b"text/\xff")], AnswerError),
}


@pytest.mark.parametrize(("script", "error"), SCRIPTS.values(), ids=SCRIPTS)
def test_what_goes_wrong_on_the_way_has_its_place_in_the_error_tree(script, error):
    with scripted_server(script) as url, pytest.raises(error) as caught:
        asyncio.run(predict(url))
    assert caught.value.status == 502
    assert SECRET.decode() not in str(caught.value) + caught.value.private


def test_a_server_that_is_down_is_an_upstream_error():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with pytest.raises(UpstreamError) as caught:
        asyncio.run(predict(f"http://127.0.0.1:{port}"))
    assert str(port) not in str(caught.value)  # where the model server is concerns nobody


@pytest.mark.parametrize("script", [[], [reply(length=500)]], ids=["before the head", "in the body"])
def test_a_server_that_is_slow_is_a_timeout(script):
    with scripted_server([*script, threading.Event()]) as url, pytest.raises(UpstreamTimeout) as caught:
        asyncio.run(predict(url, patience=0.2))
    assert caught.value.status == 504


def test_status_type_and_body_are_handed_on_as_they_came():
    for status in (200, 307, 418, 500):
        with scripted_server([reply(SECRET, f"{status} Said", "Location: http://elsewhere/")]) as url:
            answer = asyncio.run(predict(url))  # redirects too
            assert (answer.status, answer.content_type, answer.body) == (status, "application/json", SECRET)
            where = {"location": "http://elsewhere/"}
            assert dict(answer.headers) == ({} if status == 200 else where)


LARGE = bytes(range(256)) * (24 << 10)  # 6 MiB


def test_a_large_body_arrives_whole_with_its_length():
    arrived = []

    async def serve(reader, writer):
        arrived.append((await reader.readuntil(b"\r\n\r\n")).lower())
        arrived.append(await reader.readexactly(len(LARGE)))
        writer.write(reply())
        await writer.drain()
        writer.close()

    async def send():
        async with await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 16) as server:
            upstream = HttpUpstream(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", max_body=LIMIT)
            await upstream.open()
            try:
                return await upstream.predict("/v2", LARGE)
            finally:
                await upstream.close()

    assert asyncio.run(send()).body == SECRET
    head, body = arrived
    assert body == LARGE
    assert f"content-length: {len(LARGE)}".encode() in head
    assert b"transfer-encoding" not in head


def test_a_large_body_waits_in_itself_for_a_server_that_does_not_read():
    """Of what the transport has no room for no copy is made; a body may be written again from its beginning."""

    class FullWriter:
        def __init__(self, room):
            self.written, self.room = bytearray(), room

        async def write(self, piece):
            self.written += piece
            if len(self.written) > self.room:
                await asyncio.Event().wait()

    async def write(payload, room):
        writer = FullWriter(room)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.05):
                await payload.write_with_length(writer, None)
        return writer.written

    payload = body_payload(LARGE)
    assert payload.size == len(LARGE)
    assert 1 << 20 < len(asyncio.run(write(payload, 1 << 20))) <= (1 << 20) + (64 << 10)
    assert asyncio.run(write(payload, len(LARGE))) == LARGE
    assert body_payload(b"{}") == b"{}"


def test_a_pool_that_is_not_open_says_so():
    upstream = HttpUpstream("http://127.0.0.1:1")

    async def use():
        with pytest.raises(UpstreamError):
            await upstream.predict("/", b"")
        await upstream.open()
        await upstream.close()
        await upstream.close()
        with pytest.raises(UpstreamError):
            await upstream.fetch("/")

    asyncio.run(use())


FAULTS = {
    "closes early": ([reply(length=500)], 502),
    "garbage": ([reply(b"<html>")], 502),
    "500": ([reply(b'{"error":"scores-4711"}', "500 Internal Server Error")], 502),
    "compressed": ([reply(SECRET, "200 OK", "Content-Encoding: br")], 502),
    "too large": ([reply(SECRET * 100)], 502),
    "redirects": ([reply(SECRET, "302 Found", "Location: http://elsewhere/")], 502),
    "slow": ([threading.Event()], 504),
}


@pytest.mark.parametrize(("script", "status"), FAULTS.values(), ids=FAULTS)
def test_the_caller_of_a_faulty_model_server_gets_an_error_in_its_protocol_and_no_answer(harness, script, status):
    async def post(url):
        harness.upstream = HttpUpstream(url, timeout=0.3 if status == 504 else 20.0, max_body=LIMIT)
        await harness.upstream.open()
        transport = httpx.ASGITransport(application(harness.components()))
        try:
            async with httpx.AsyncClient(transport=transport, base_url="http://toll") as client:
                return await client.post(
                    harness.path,
                    content=harness.infer_body([1, 2]),
                    headers={"x-api-key": "alice-key", "content-type": "application/json"},
                )
        finally:
            await harness.upstream.close()

    with scripted_server(script) as url:
        response = asyncio.run(post(url))
    assert response.status_code == status
    assert list(response.json()) == ["error"]
    assert SECRET not in response.content
    assert (harness.account(), harness.log()) == (None, [])
