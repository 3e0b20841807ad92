"""Server-sent events: a bounded parser of their bytes, and how events are written (HTML standard, section 9.2)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from modeltoll.errors import AnswerError

__all__ = [
    "DONE",
    "EVENT_STREAM",
    "KEEP_ALIVE",
    "EventParser",
    "StreamEvent",
    "is_event_stream",
    "without_comments",
    "write_comment",
    "write_event",
]

EVENT_STREAM = "text/event-stream"
DONE = b"[DONE]"  # the data of the event that ends a stream of OpenAI's kind
KEEP_ALIVE = b":\n\n"  # written for every comment of a model server, whose text nobody measures
_COMMENT_BLOCK = re.compile(rb"(?:(?<=\n\n)|\A):[^\n]*\n\n")
_MOST_EVENT_BYTES = 16 << 20
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One event: its ``data``, whose lines are joined by a line feed, and its ``name``, which most streams leave empty.

    ``data`` is None for a comment. Identifiers, retry times and fields that are not known are left out.
    """

    data: bytes | None
    name: str = ""


class EventParser:
    """Parses one stream, in chunks that may end anywhere. ``max_event`` bounds one event in bytes."""

    def __init__(self, max_event: int = _MOST_EVENT_BYTES) -> None:
        self._max_event = max_event
        self._line: list[bytes] = []  # pieces of a line that has not ended
        self._line_bytes = 0
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._name = ""
        self._after_return = False  # a line feed that comes first belongs to the carriage return before it
        self._is_first_line = True

    @property
    def is_between_events(self) -> bool:
        """Whether nothing of a further event has come."""
        return not (self._line_bytes or self._data)

    def feed(self, chunk: bytes) -> list[StreamEvent]:
        """The events and comments that are complete with ``chunk``, in their order.

        Raises:
            AnswerError: an event is larger than the limit; nothing more can be read.
        """
        if not chunk:
            return []
        if self._after_return:
            chunk = chunk.removeprefix(b"\n")
        events: list[StreamEvent] = []
        for piece in chunk.splitlines(keepends=True):
            self._add(piece)
            if piece.endswith((b"\n", b"\r")):
                self._end_line(events)
        self._after_return = chunk.endswith(b"\r")  # False where the line feed was all that came
        return events

    def _add(self, piece: bytes) -> None:
        self._line.append(piece)
        self._line_bytes += len(piece)
        if self._line_bytes + self._data_bytes > self._max_event:
            raise AnswerError(f"the model server's stream has an event of more than {self._max_event} bytes")

    def _end_line(self, events: list[StreamEvent]) -> None:
        line = b"".join(self._line).rstrip(b"\r\n")
        self._line, self._line_bytes = [], 0
        if self._is_first_line:
            line, self._is_first_line = line.removeprefix(_BYTE_ORDER_MARK), False
        if not line:
            if self._data:
                events.append(StreamEvent(b"\n".join(self._data), self._name))
            self._data, self._data_bytes, self._name = [], 0, ""
        elif line.startswith(b":"):
            events.append(StreamEvent(None))
        else:
            self._take_field(line)

    def _take_field(self, line: bytes) -> None:
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
            self._data_bytes += len(value) + 1
        elif field == b"event":
            self._name = value.decode("utf-8", "replace")


def write_event(data: bytes, name: str = "") -> bytes:
    """The bytes of one event. ``data`` may have several lines, which end with line feeds alone."""
    head = b"event: %b\n" % name.encode("utf-8", "replace") if name else b""
    if b"\n" not in data:
        return b"%bdata: %b\n\n" % (head, data)
    return head + b"".join(b"data: %b\n" % line for line in data.split(b"\n")) + b"\n"


def write_comment(text: str) -> bytes:
    """The bytes of a comment of one line, which clients ignore."""
    return b": %b\n\n" % text.encode()


def without_comments(events: bytes) -> bytes:
    """Whole events as this module writes them, without the comments among them."""
    return _COMMENT_BLOCK.sub(b"", events) if events.startswith(b":") or b"\n\n:" in events else events


def is_event_stream(content_type: str) -> bool:
    """Whether an answer of this content type is a stream of events."""
    return content_type.partition(";")[0].strip().lower() == EVENT_STREAM
