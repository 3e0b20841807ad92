"""Event streams (``text/event-stream``) of opened answers, cut into events, and the requests that ask for them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modeltoll.records import Answer

__all__ = ["EVENTS_BEFORE_OTHERS", "FURTHER_SILENCE", "asks_for_events", "events_of", "is_event_stream"]

FURTHER_SILENCE = 25.0
"""Seconds by which a gateway may be silent for longer than its model server: it sends nothing until 10 to 12.5 s after the
first event, and then a byte every 10 s."""

EVENTS_BEFORE_OTHERS = 64
"""Events that are replayed at once before an event loop runs its other tasks."""

_BLANK_LINES = re.compile(rb"(?:\r\n|\n|\r(?!\n)){2,}")  # the end of an event: server-sent events, HTML standard 9.2.5
_STREAM_MEMBER = re.compile(rb'"stream"\s*:\s*true')


def is_event_stream(answer: Answer) -> bool:
    """Whether the answer's content type is that of server-sent events."""
    return answer.content_type.partition(";")[0].strip().lower() == "text/event-stream"


def events_of(body: bytes) -> Iterator[bytes]:
    """The events of a stream in order, each with the blank lines that end it; together they are the body.

    Comments are passed on, as events of their own or with the event that they precede. What follows the last blank line is
    the last item, if there is anything.
    """
    start = 0
    for end in _BLANK_LINES.finditer(body):
        yield body[start : end.end()]
        start = end.end()
    if start < len(body):
        yield body[start:]


def asks_for_events(accept: str, body: bytes | str | None) -> bool:
    """Whether a request asks for an event stream: ``Accept`` names nothing else, or its JSON body has ``"stream": true``."""
    if {kind.partition(";")[0].strip() for kind in accept.lower().split(",")} == {"text/event-stream"}:
        return True
    raw = body.encode("utf-8", "surrogateescape") if isinstance(body, str) else body or b""
    return _STREAM_MEMBER.search(raw) is not None
