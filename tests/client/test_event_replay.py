"""An opened answer that is an event stream comes to the caller one event after the other, with every library."""

from __future__ import annotations

import asyncio
import re
import time

import aiohttp
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import StreamingResponse

from modeltoll.client.aiohttp import TollMiddleware
from modeltoll.client.event_streams import FURTHER_SILENCE, asks_for_events, events_of
from modeltoll.client.purse import Purse
from modeltoll.client.requests import TollAdapter
from modeltoll.records import Answer

STREAMS = {
    "LF": [b"data: a\n\n", b"event: x\ndata: b\ndata: c\n\n", b"data: [DONE]\n\n"],
    "CRLF": [b"data: a\r\n\r\n", b"data: b\r\n\r\n\r\n", b"data: c\r\n\r\n"],
    "CR": [b"data: a\r\r", b"data: b\rid: 1\r\r"],
    "comments": [b": keep-alive\n\n", b": one\ndata: a\n\n", b": Toll-Receipt: rows=1; work=0.1\n\n"],
    "BOM and split text": [b"\xef\xbb\xbfdata: \xc3\xa4\n\n", b"data: \xe2\x82\xac\n\n"],
    "cut off": [b"data: a\n\n", b"data: b\n"],
    "one event": [b"data: a"],
    "nothing": [],
}
EVENTS = STREAMS["LF"]
STREAMED = "text/event-stream; charset=utf-8"


def stream_of(events):
    return Answer(200, STREAMED, b"".join(events))


@given(st.lists(st.sampled_from([b"data: a", b":", b"\n", b"\r", b"\r\n"]), max_size=30).map(b"".join))
def test_the_events_together_are_the_body_and_each_ends_with_its_blank_lines(body):
    blank = re.compile(rb"\n\n|\r\r|\r\n\r|\n\r")
    events = list(events_of(body))
    assert b"".join(events) == body
    for number, event in enumerate(events):
        content = event.rstrip(b"\r\n")
        assert event
        assert not blank.search(content.lstrip(b"\r\n"))
        assert number == len(events) - 1 or blank.search(event[-3:])


@pytest.mark.parametrize("events", STREAMS.values(), ids=STREAMS)
def test_every_event_is_one_chunk(any_driver, toll_server, events):
    headers, *chunks = any_driver.chunks(any_driver.toll(), toll_server.serve_toll(stream_of(events)))
    assert chunks == events
    assert headers["content-type"] == STREAMED
    assert "content-length" not in headers


def test_a_program_that_reads_the_whole_answer_gets_the_same_bytes(any_driver, toll_server):
    response = any_driver.send(any_driver.toll(), "POST", toll_server.serve_toll(stream_of(EVENTS)))
    assert (response.status_code, response.content) == (200, b"".join(EVENTS))


def test_the_pace_lies_between_the_events(any_driver, toll_server):
    url, pace = toll_server.serve_toll(stream_of(EVENTS)), 0.02
    arrived = any_driver.chunks(any_driver.toll(Purse(replay_pace=pace)), url)
    next(arrived)
    begin = time.monotonic()
    assert list(arrived) == EVENTS
    assert time.monotonic() - begin >= 2 * pace


def test_the_first_event_comes_at_once_and_a_caller_may_leave(any_driver, toll_server):
    url = toll_server.serve_toll(stream_of(EVENTS))
    arrived = any_driver.chunks(any_driver.toll(Purse(replay_pace=3600.0)), url)
    next(arrived)
    assert next(arrived) == EVENTS[0]
    arrived.close()


READS = {
    "lines": lambda content: content,
    "chunks": lambda content: content.iter_chunks(),
    "bytes": lambda content: content.iter_chunked(3),
}
READ = {
    "lines": b"".join(EVENTS).splitlines(keepends=True),
    "chunks": [(event, True) for event in EVENTS],
    "bytes": [event[start : start + 3] for event in EVENTS for start in range(0, len(event), 3)],
}


@pytest.mark.parametrize("way", READS)
@pytest.mark.parametrize("waits", [False, True])
def test_every_way_to_read_of_aiohttp_gives_the_events(toll_server, way, waits):
    url = toll_server.serve_toll(stream_of(EVENTS))

    async def main():
        middlewares = [TollMiddleware(purse=Purse(replay_pace=0.001))]
        async with aiohttp.ClientSession(middlewares=middlewares) as session, session.post(url) as response:
            if waits:
                await response.content.wait_eof()
            return [part async for part in READS[way](response.content)]

    parts = asyncio.run(main())
    assert parts == READ[way] or (waits and way == "bytes" and b"".join(parts) == b"".join(EVENTS))


def test_ways_to_read_of_requests_give_the_events(toll_server):
    url = toll_server.serve_toll(stream_of(EVENTS))
    with requests.Session() as session:
        session.mount("http://", TollAdapter())
        assert list(session.post(url, stream=True).iter_lines()) == b"".join(EVENTS).splitlines()
        response = session.post(url, stream=True)
        assert [response.raw.read(5), *response.iter_content(None)] == [EVENTS[0][:5], EVENTS[0][5:], *EVENTS[1:]]
        assert session.post(url).text == b"".join(EVENTS).decode()


@pytest.mark.parametrize("pace", [-1.0, float("nan"), float("inf")])
def test_a_pace_that_is_no_time_is_refused(pace):
    with pytest.raises(ValueError, match="replay_pace"):
        Purse(replay_pace=pace)


def with_white_space(response):
    """The same response, whose body comes after white space, in parts."""

    async def parts():
        for part in (b" ", b"\n", b"\t\r\n ", response.body[:7], response.body[7:]):
            yield part

    return StreamingResponse(parts(), response.status_code, media_type="application/problem+json")


def test_white_space_before_a_toll_is_read(any_driver, toll_server, toll, toll_response):
    made = toll_response(toll(stream_of(EVENTS)))
    toll_server.handlers["/infer"] = lambda *_: with_white_space(made)
    _, *chunks = any_driver.chunks(any_driver.toll(), toll_server.url + "/infer")
    assert chunks == EVENTS


def test_white_space_before_a_problem_without_a_toll_is_passed_on(any_driver, toll_server, toll, toll_response):
    problem = b'{"error": {"message": "the model server stopped"}}'
    made = toll_response(toll(stream_of(EVENTS)), body=problem)
    toll_server.handlers["/infer"] = lambda *_: with_white_space(made)
    response = any_driver.send(any_driver.toll(), "POST", toll_server.url + "/infer")
    assert (response.status_code, response.content) == (402, b" \n\t\r\n " + problem)


STREAM_REQUEST = b'{"model": "m", "stream" : true}'
PLAIN_REQUEST = b'{"model": "m", "stream": false, "messages": [{"content": "\\"stream\\": true"}]}'


@pytest.mark.parametrize(("accept", "body", "asks"), [
    ("*/*", STREAM_REQUEST, True),
    ("*/*", STREAM_REQUEST.decode(), True),
    ("text/event-stream", None, True),
    ("Text/Event-Stream; q=1", None, True),
    ("application/json, text/event-stream", None, False),
    ("application/json", PLAIN_REQUEST, False),
    ("", None, False),
])  # fmt: skip
def test_requests_for_streams_are_recognised(accept, body, asks):
    assert asks_for_events(accept, body) is asks


@pytest.mark.parametrize(("content", "further"), [(STREAM_REQUEST, FURTHER_SILENCE), (PLAIN_REQUEST, 0.0)])
def test_the_read_timeout_of_httpx_is_longer_for_streams(driver, toll_server, content, further):
    seen = []
    kind = driver.library.AsyncHTTPTransport if driver.is_async else driver.library.HTTPTransport

    class Recording(kind):
        def handle_request(self, request):
            seen.append(request.extensions["timeout"])
            return super().handle_request(request)

        async def handle_async_request(self, request):
            seen.append(request.extensions["timeout"])
            return await super().handle_async_request(request)

    url = toll_server.serve_toll(stream_of(EVENTS))
    list(driver.chunks(driver.toll(inner=Recording(verify=False)), url, content=content, timeout=5.0))
    assert seen[0] == {"connect": 5.0, "read": 5.0 + further, "write": 5.0, "pool": 5.0}


@pytest.mark.parametrize(("content", "further"), [(STREAM_REQUEST, FURTHER_SILENCE), (PLAIN_REQUEST, 0.0)])
@pytest.mark.parametrize("timeout", [5.0, (5.0, 5.0), None, (5.0, None)])
def test_the_read_timeout_of_requests_is_longer_for_streams(toll_server, content, further, timeout):
    """aiohttp tells a middleware no timeouts, so that it cannot do the same."""
    seen = []

    class Recording(requests.adapters.HTTPAdapter):
        def send(self, request, stream=False, timeout=None, *options):
            seen.append(timeout)
            return super().send(request, stream, timeout, *options)

    with requests.Session() as session:
        session.mount("http://", TollAdapter(adapter=Recording()))
        session.post(toll_server.serve_toll(stream_of(EVENTS)), data=content, timeout=timeout)
    read = timeout[1] if isinstance(timeout, tuple) else timeout
    assert seen[0] == (timeout if not further or read is None else (5.0, read + further))
