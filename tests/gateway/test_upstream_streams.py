"""Streams of the model server: chunks as they come, limits of size and time, and an end of the request with the context."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import zlib

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from chat_streams import StreamingUpstream
from modeltoll.errors import AnswerError, CallerGone, UpstreamBusy, UpstreamError, UpstreamTimeout
from modeltoll.gateway.observability.tracing import TracedUpstream, Tracer
from modeltoll.gateway.upstream.application import ApplicationUpstream
from modeltoll.gateway.upstream.bounded_queue import BoundedUpstream
from modeltoll.gateway.upstream.hang_up import HangUpUpstream, caller_present
from modeltoll.gateway.upstream.http_upstream import HttpUpstream
from modeltoll.testing.model_servers import scripted_server

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
LIMIT = 1000


def part(data):
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


async def read(url, *, seen=None, patience=20.0, leave_after=None):
    """The chunks of a stream; ``seen`` are events to set, one after each chunk."""
    upstream = HttpUpstream(url, timeout=patience, max_body=LIMIT)
    await upstream.open()
    chunks = []
    try:
        async with upstream.stream("/", b"{}") as answer:
            assert (answer.status, answer.content_type) == (200, "text/event-stream")
            async for chunk in answer:
                chunks.append(chunk)
                if seen is not None and len(chunks) <= len(seen):
                    seen[len(chunks) - 1].set()
                if leave_after == len(chunks):
                    break
        return chunks
    finally:
        await upstream.close()


def test_chunks_come_before_the_next_one_is_sent():
    seen = [threading.Event(), threading.Event()]
    script = [HEAD + b"\r\n" + part(b"data: 1\n\n"), seen[0], part(b"data: 2\n\n"), seen[1], part(b"")]
    with scripted_server(script) as url:
        assert asyncio.run(read(url, seen=seen)) == [b"data: 1\n\n", b"data: 2\n\n"]


BROKEN = {
    "a connection that is lost": ([HEAD + b"\r\n" + part(b"data: 1\n\n")], UpstreamError),
    "no head": ([b"HTTP/1.1 200 OK\r\nContent-"], UpstreamError),
    "too many bytes": ([HEAD + b"\r\n", *[part(b"data: 1\n\n" * 50)] * 3, part(b"")], AnswerError),
    "a wrong compression": ([HEAD + b"Content-Encoding: gzip\r\n\r\n" + part(b"data: 1\n\n") + part(b"")], AnswerError),
}


@pytest.mark.parametrize(("script", "error"), BROKEN.values(), ids=BROKEN)
def test_what_goes_wrong_in_the_middle_is_raised_by_the_iteration(script, error):
    with scripted_server(script) as url, pytest.raises(error) as caught:
        asyncio.run(read(url))
    assert caught.value.status == 502


@pytest.mark.parametrize("script", [[threading.Event()], [HEAD + b"\r\n" + part(b"data: 1\n\n"), threading.Event()]])
def test_a_head_and_each_chunk_must_come_in_time(script):
    with scripted_server(script) as url, pytest.raises(UpstreamTimeout):
        asyncio.run(read(url, patience=0.1))


def test_a_compressed_stream_is_read_event_by_event():
    engine = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    first = engine.compress(b"data: 1\n\n") + engine.flush(zlib.Z_SYNC_FLUSH)
    last = engine.compress(b"data: 2\n\n") + engine.flush()
    seen = [threading.Event()]
    script = [HEAD + b"Content-Encoding: gzip\r\n\r\n" + part(first), seen[0], part(last), part(b"")]
    with scripted_server(script) as url:
        assert asyncio.run(read(url, seen=seen)) == [b"data: 1\n\n", b"data: 2\n\n"]


def test_leaving_a_stream_closes_its_connection():
    closed = threading.Event()
    listening = socket.create_server(("127.0.0.1", 0))

    def serve():
        connection, _ = listening.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(HEAD + b"\r\n" + part(b"data: 1\n\n"))
            with contextlib.suppress(OSError):
                while connection.recv(65536):
                    pass
            closed.set()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    assert asyncio.run(read(url, leave_after=1)) == [b"data: 1\n\n"]
    assert closed.wait(10)
    thread.join(10)
    listening.close()


def test_a_stream_keeps_its_place_in_the_queue_until_it_is_left():
    async def run():
        hold = asyncio.Event()
        queue = BoundedUpstream(StreamingUpstream(b"1", hold), max_concurrent=1, max_waiting=0, max_wait_seconds=1.0)
        async with queue.stream("/", b"") as answer:
            assert await anext(aiter(answer)) == b"1"
            assert queue.active == 1
            with pytest.raises(UpstreamBusy):
                await queue.predict("/", b"")
        assert queue.active == 0

    asyncio.run(run())


@pytest.mark.parametrize("chunks", [0, 1])
def test_a_hang_up_is_raised_by_the_stream_which_is_closed_then(chunks):
    async def run():
        upstream, gone = (
            StreamingUpstream(*[b"1"] * chunks, asyncio.Event()),
            asyncio.get_running_loop().create_future(),
        )
        with caller_present(gone):
            async with HangUpUpstream(upstream).stream("/", b"") as answer:
                for _ in range(chunks):
                    assert await anext(answer.chunks) == b"1"
                asyncio.get_running_loop().call_later(0.01, gone.set_result, None)
                with pytest.raises(CallerGone):
                    await anext(answer.chunks)
        assert (upstream.opened, upstream.closed) == (1, 1)

    asyncio.run(run())


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_a_hang_up_beside_the_answer_cancels_nothing_later(turns):
    """Whichever comes first: the answer or ``CallerGone``, and the task goes on."""

    class Answers:
        def __init__(self):
            self.ready = asyncio.get_running_loop().create_future()

        async def predict(self, *_):
            return await self.ready

    async def run():
        loop = asyncio.get_running_loop()
        upstream, gone = Answers(), loop.create_future()

        async def hang_up():
            for _ in range(turns):
                await asyncio.sleep(0)
            gone.set_result(None)

        loop.call_soon(lambda: loop.call_soon(upstream.ready.set_result, "answer"))
        leaving = asyncio.ensure_future(hang_up())
        with caller_present(gone):
            try:
                found = await HangUpUpstream(upstream).predict("/", b"")
            except CallerGone:
                found = "gone"
        for _ in range(4):
            await asyncio.sleep(0)
        await leaving
        assert asyncio.current_task().cancelling() == 0
        return found

    assert asyncio.run(run()) in ("answer", "gone")


def test_a_caller_who_has_left_already_asks_nothing():
    async def run():
        upstream, gone = StreamingUpstream(b"1"), asyncio.get_running_loop().create_future()
        gone.set_result(None)
        with caller_present(gone), pytest.raises(CallerGone):
            async with HangUpUpstream(upstream).stream("/", b""):
                raise AssertionError
        assert upstream.opened == 0

    asyncio.run(run())


def test_a_cancellation_from_elsewhere_is_not_taken_for_a_hang_up():
    async def run():
        upstream, gone = StreamingUpstream(asyncio.Event()), asyncio.get_running_loop().create_future()

        async def ask():
            with caller_present(gone):
                async with HangUpUpstream(upstream).stream("/", b"") as answer:
                    await anext(answer.chunks)

        asking = asyncio.ensure_future(ask())
        await asyncio.sleep(0.01)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    asyncio.run(run())


# --- an application in the same process


def application(*steps, ended=None):
    """Sends these chunks, waits for events, raises errors; ``ended`` notes how it was left."""

    async def app(scope, receive, send):
        try:
            await receive()
            await send(
                {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]}
            )
            for step in steps:
                if isinstance(step, Exception):
                    raise step
                if isinstance(step, bytes):
                    await send({"type": "http.response.body", "body": step, "more_body": True})
                else:
                    await step(receive)
            await send({"type": "http.response.body", "body": b""})
        finally:
            if ended is not None:
                ended.set()

    return app


def test_an_application_s_chunks_come_as_it_sends_them():
    async def run():
        release = asyncio.Event()

        async def wait(receive):
            await release.wait()

        found = []
        async with ApplicationUpstream(application(b"1", wait, b"2")).stream("/", b"{}") as answer:
            async for chunk in answer:
                found.append(chunk)
                release.set()
        assert found == [b"1", b"2"]

    asyncio.run(run())


def test_an_application_learns_that_its_stream_was_left():
    async def run():
        ended = asyncio.Event()

        async def wait(receive):
            assert (await receive())["type"] == "http.disconnect"

        async with ApplicationUpstream(application(b"1", wait, ended=ended)).stream("/", b"{}") as answer:
            assert await anext(aiter(answer)) == b"1"
        async with asyncio.timeout(10):
            await ended.wait()

    asyncio.run(run())


def test_an_application_that_nobody_reads_waits():
    async def run():
        sent = []

        async def note(receive):
            sent.append(len(sent))

        steps = [part for _ in range(40) for part in (b"x" * (64 << 10), note)]
        async with ApplicationUpstream(application(*steps)).stream("/", b"{}") as answer:
            for _ in range(200):
                await asyncio.sleep(0)
            assert len(sent) < 20
            assert sum([len(chunk) async for chunk in answer]) == 40 * (64 << 10)
        assert len(sent) == 40

    asyncio.run(run())


@pytest.mark.parametrize(
    ("steps", "limit", "error"),
    [
        ((b"1", RuntimeError("secret")), LIMIT, UpstreamError),
        ((b"1" * 600, b"2" * 600), LIMIT, AnswerError),
        ((lambda receive: asyncio.Event().wait(),), LIMIT, UpstreamTimeout),
    ],
    ids=["fails", "sends too much", "pauses"],
)
def test_what_goes_wrong_in_an_application_is_raised_by_the_iteration(steps, limit, error):
    async def run():
        upstream = ApplicationUpstream(application(*steps), limit, timeout=0.1)
        async with upstream.stream("/", b"{}") as answer:
            async for _ in answer:
                pass

    with pytest.raises(error) as caught:
        asyncio.run(run())
    assert "secret" not in str(caught.value)


def test_a_span_lasts_as_long_as_its_stream():
    exporter = InMemorySpanExporter()
    tracer = Tracer(exporter, 1.0)

    async def run():
        async with TracedUpstream(StreamingUpstream(b"1"), tracer).stream("/x", b"") as answer:
            assert [chunk async for chunk in answer] == [b"1"]
            tracer._provider.force_flush()
            assert exporter.get_finished_spans() == ()

    with tracer.running():
        asyncio.run(run())
    (span,) = exporter.get_finished_spans()
    assert span.attributes["url.path"] == "/x"
