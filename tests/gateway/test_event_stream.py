"""Server-sent events: the parser reads every spelling that the standard allows, wherever the chunks end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeltoll.errors import AnswerError
from modeltoll.gateway.protocols.event_stream import (
    DONE,
    KEEP_ALIVE,
    EventParser,
    StreamEvent,
    is_event_stream,
    without_comments,
    write_comment,
    write_event,
)

STREAM = (
    "\ufeffdata: eins\n\n"
    ": keep-alive\n\n"
    "event: error\ndata: größer\ndata:  zwei\n\n"
    "data\n\n"
    "id: 7\nretry: 3000\nunknown: text\n\n"
    "data: [DONE]\n\n"
)
EVENTS = [
    StreamEvent(b"eins"),
    StreamEvent(None),
    StreamEvent("größer\n zwei".encode(), "error"),
    StreamEvent(b""),
    StreamEvent(DONE),
]


def parsed(*chunks: bytes) -> list[StreamEvent]:
    parser = EventParser()
    return [event for chunk in chunks for event in parser.feed(chunk)]


@pytest.mark.parametrize("line_end", ["\n", "\r", "\r\n"])
def test_every_line_end_and_every_place_of_a_chunk_s_end_gives_the_same_events(line_end: str) -> None:
    text = STREAM.replace("\n", line_end).encode()
    assert parsed(text) == EVENTS
    assert parsed(*(text[place : place + 1] for place in range(len(text)))) == EVENTS
    for place in range(len(text)):
        assert parsed(text[:place], b"", text[place:]) == EVENTS


def test_an_event_comes_with_the_end_of_its_empty_line_and_not_before() -> None:
    parser = EventParser()
    assert parser.feed(b"data: 1\r\n\r") == [StreamEvent(b"1")]
    assert parser.is_between_events
    assert parser.feed(b"\ndata: 2\r\n") == []
    assert not parser.is_between_events
    assert parser.feed(b"\r\n") == [StreamEvent(b"2")]


def test_what_has_not_ended_is_no_event() -> None:
    parser = EventParser()
    assert parser.feed(b"data: half") == []
    assert not parser.is_between_events


def test_an_event_above_the_limit_is_refused_in_one_line_and_in_several() -> None:
    EventParser(max_event=16).feed(b"data: 123456789\n\n" * 1000)
    with pytest.raises(AnswerError, match="16 bytes"):
        EventParser(max_event=16).feed(b"data: 1234567890123")
    several = EventParser(max_event=16)
    with pytest.raises(AnswerError, match="16 bytes"):
        several.feed(b"data: 12345\n" * 4)
    comment = EventParser(max_event=16)
    for _ in range(16):
        comment.feed(b":")
    with pytest.raises(AnswerError, match="16 bytes"):
        comment.feed(b":")


@given(st.lists(st.tuples(st.text(), st.sampled_from(["", "delta", "error"]))), st.integers(1, 7))
def test_what_is_written_is_what_is_read(events: list[tuple[str, str]], size: int) -> None:
    written = b"".join(
        write_event(text.replace("\r", "").encode("utf-8", "replace"), name) + KEEP_ALIVE for text, name in events
    )
    chunks = [written[place : place + size] for place in range(0, len(written), size)]
    found = [event for event in parsed(*chunks) if event.data is not None]
    assert found == [StreamEvent(text.replace("\r", "").encode("utf-8", "replace"), name) for text, name in events]


def test_comments_can_be_left_out_of_what_was_written() -> None:
    events = write_event(b":\n:", "error"), write_event(b"1")
    mixed = KEEP_ALIVE * 2 + events[0] + KEEP_ALIVE * 3 + events[1] + write_comment("Toll-Receipt: rows=1; work=0.1")
    assert without_comments(mixed) == events[0] + events[1]
    assert without_comments(KEEP_ALIVE) == b""
    assert without_comments(events[0]) == events[0]


def test_content_types_of_streams() -> None:
    assert is_event_stream("text/event-stream")
    assert is_event_stream("Text/Event-Stream; charset=utf-8")
    assert not is_event_stream("text/event-streams")
    assert not is_event_stream("application/json")
