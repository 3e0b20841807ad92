"""The sidecar and event streams: one chunk per event, and comments while a program waits for a toll to be paid."""

from __future__ import annotations

import asyncio
import threading

import openai
import pytest
from starlette.responses import Response, StreamingResponse

from modeltoll.client import sidecar_streams
from modeltoll.records import Answer
from served_sidecar import Sidecar

EVENTS = [b'data: {"a": 1}\n\n', b": comment\n\n", b"data: [DONE]\n\n"]
STREAM = Answer(200, "text/event-stream", b"".join(EVENTS))
ASKING = {"content": b'{"stream": true}'}
COMMENT = b":\n\n"


@pytest.fixture
def sidecar(toll_server):
    with Sidecar(toll_server.url) as running:
        yield running


@pytest.fixture
def prompt(monkeypatch):
    """Comments are sent every 50 ms."""
    monkeypatch.setattr(sidecar_streams, "KEEP_ALIVE_SECONDS", 0.05)


def chunks_of(sidecar, path="/infer", **request):
    with sidecar.stream("POST", path, **request) as response:
        yield response
        yield from response.iter_raw()


def late(response, commented):
    """A response whose body comes after white space, once the program has got a comment."""

    async def parts():
        yield b" "
        assert await asyncio.to_thread(commented.wait, 10)
        yield response.body

    return StreamingResponse(parts(), response.status_code, media_type="application/problem+json")


def test_every_event_is_a_chunk(toll_server, sidecar):
    toll_server.serve_toll(STREAM)
    response, *chunks = chunks_of(sidecar, **ASKING)
    assert (response.status_code, response.headers["content-type"]) == (200, "text/event-stream")
    assert chunks == EVENTS
    assert "content-length" not in response.headers


def test_a_live_stream_comes_through_as_it_is_sent(toll_server, sidecar, prompt):
    arrived = threading.Event()

    async def halves():
        yield EVENTS[0]
        assert await asyncio.to_thread(arrived.wait, 10)
        yield EVENTS[1]

    toll_server.handlers["/infer"] = lambda *_: StreamingResponse(halves(), 200, media_type="text/event-stream")
    chunks = chunks_of(sidecar, **ASKING)
    next(chunks)
    assert next(chunks) == EVENTS[0]
    arrived.set()
    assert list(chunks) == [EVENTS[1]]


def test_comments_come_before_the_events_while_a_toll_is_awaited(toll_server, sidecar, prompt, toll, toll_response):
    commented, made = threading.Event(), toll_response(toll(STREAM))
    toll_server.handlers["/infer"] = lambda *_: late(made, commented)
    chunks = chunks_of(sidecar, **ASKING)
    response = next(chunks)
    assert (response.status_code, response.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert next(chunks) == COMMENT
    commented.set()
    assert [chunk for chunk in chunks if chunk != COMMENT] == EVENTS
    assert 'outcome="answered"} 1.0' in sidecar.metrics()


@pytest.mark.parametrize("accept", ["*/*", "application/json, text/event-stream"])
def test_a_request_for_no_stream_gets_no_comments(toll_server, sidecar, prompt, toll, toll_response, accept):
    asked, made = threading.Event(), toll_response(toll(STREAM))
    toll_server.handlers["/infer"] = lambda *_: late(made, asked)
    threading.Timer(0.3, asked.set).start()
    _, *chunks = chunks_of(sidecar, content=b"{}", headers={"accept": accept})
    assert chunks == EVENTS


def test_a_slow_answer_that_is_no_toll_keeps_its_status(toll_server, sidecar, prompt):
    slow = threading.Event()

    async def busy(*_):
        assert await asyncio.to_thread(slow.wait, 10)
        return Response(b"busy", 503, media_type="text/plain")

    toll_server.handlers["/infer"] = busy
    threading.Timer(0.3, slow.set).start()
    response, *chunks = chunks_of(sidecar, **ASKING)
    assert (response.status_code, chunks) == (503, [b"busy"])


@pytest.mark.parametrize(("body", "message"), [
    (b'{"error": {"message": "the model server stopped", "type": "x"}}', "the model server stopped"),
    (b'{"error": "a reason"}', "a reason"),
    (b"no JSON", "the upstream answered 402"),
    (b"[1]", "the upstream answered 402"),
])  # fmt: skip
def test_an_error_after_comments_reaches_the_openai_sdk(
    toll_server, sidecar, prompt, toll, toll_response, body, message
):
    commented, made = threading.Event(), toll_response(toll(STREAM), body=body)
    toll_server.handlers["/v1/chat/completions"] = lambda *_: late(made, commented)
    with openai.OpenAI(base_url=sidecar.url + "/v1", api_key="k", max_retries=0) as client:
        stream = client.chat.completions.create(model="m", messages=[], stream=True)
        commented.set()
        with pytest.raises(openai.APIError, match=message):
            list(stream)
    assert 'outcome="failed"} 1.0' in sidecar.metrics()


def test_an_answer_that_is_no_stream_is_not_lost_after_comments(toll_server, sidecar, prompt, toll, toll_response):
    commented, made = threading.Event(), toll_response(toll(Answer(200, "application/json", b'{"a":\n 1}')))
    toll_server.handlers["/infer"] = lambda *_: late(made, commented)
    chunks = chunks_of(sidecar, **ASKING)
    next(chunks)
    next(chunks)
    commented.set()
    assert [chunk for chunk in chunks if chunk != COMMENT] == [b'data: {"a": 1}\n\n']
    assert 'outcome="answered"} 1.0' in sidecar.metrics()


def test_a_toll_that_is_refused_after_comments_is_an_error_event(toll_server, prompt, toll, toll_response):
    commented, made = threading.Event(), toll_response(toll(STREAM))
    toll_server.handlers["/infer"] = lambda *_: late(made, commented)
    with Sidecar(toll_server.url, max_seconds=0.0) as sidecar:
        chunks = chunks_of(sidecar, **ASKING)
        next(chunks)
        next(chunks)
        commented.set()
        (error,) = [chunk for chunk in chunks if chunk != COMMENT]
        assert error.startswith(b'data: {"error": {"message": "the toll takes')
        assert error.endswith(b'"code": 402}}\n\n')
        assert 'outcome="refused"} 1.0' in sidecar.metrics()


def test_a_program_that_leaves_while_it_waits_ends_the_request(toll_server, sidecar, prompt, wait_until):
    gone = threading.Event()

    async def parts():
        try:
            while True:
                yield b" "
                await asyncio.sleep(0.01)
        finally:
            gone.set()

    toll_server.handlers["/infer"] = lambda *_: StreamingResponse(parts(), 402, media_type="application/json")
    chunks = chunks_of(sidecar, **ASKING)
    next(chunks)
    assert next(chunks) == COMMENT
    chunks.close()
    wait_until(gone.is_set)
