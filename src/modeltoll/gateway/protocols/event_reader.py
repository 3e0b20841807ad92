"""What all readers of event streams share: events are checked and written anew, faults and errors are kept for the end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import msgspec

from modeltoll.errors import AnswerError, StreamBroken
from modeltoll.gateway.protocols.event_stream import DONE, KEEP_ALIVE, EventParser, write_event
from modeltoll.gateway.protocols.protocol import JSON
from modeltoll.gateway.protocols.request_members import has_value
from modeltoll.records import Answer

if TYPE_CHECKING:
    from modeltoll.gateway.protocols.event_stream import StreamEvent

__all__ = ["EventReader"]


class EventReader(ABC):
    """Reads the stream of one answer whose events are JSON; see ``StreamReader``."""

    def __init__(self) -> None:
        self._parser = EventParser()
        self._fault: AnswerError | None = None  # the first thing that cannot be measured
        self._error: bytes | None = None  # the server's own
        self._is_done = False

    @abstractmethod
    def _add(self, event: StreamEvent, document: Any) -> None:
        """Add an event to the answer.

        Raises:
            AnswerError: it holds what is not measured.
        """

    @abstractmethod
    def _event(self, event: StreamEvent, document: Any) -> bytes:
        """The event as the caller gets it, without what they did not ask for."""

    @abstractmethod
    def _has_ended(self) -> bool:
        """Whether the answer is complete, though no event said that the stream is."""

    @abstractmethod
    def _document(self) -> Any:
        """The whole answer; raises ``AnswerError``."""

    def _is_error(self, document: object) -> bool:
        return isinstance(document, dict) and (has_value(document.get("error")) or document.get("object") == "error")

    def feed(self, chunk: bytes) -> bytes:
        """See ``StreamReader.feed``. The text of a comment, and that of an error, is left out."""
        if self._is_done or self._error is not None:
            return b""
        try:
            events = self._parser.feed(chunk)
        except AnswerError as error:
            self._fault, self._is_done = self._fault or error, True  # nothing more can be read
            return b""
        return b"".join(map(self._written, events))

    def finish(self) -> Answer:
        """See ``StreamReader.finish``."""
        if self._error is not None:
            raise StreamBroken(
                "the model server ended its stream with an error",
                body=self._error,
                private=self._error[:1000].decode("utf-8", "replace"),
            )
        if self._fault is not None:
            raise self._fault
        if not (self._is_done or self._has_ended()):
            raise AnswerError("the model server's stream ended before its answer was complete")
        return Answer(200, JSON, msgspec.json.encode(self._document()))

    def _written(self, event: StreamEvent) -> bytes:
        if self._is_done or self._error is not None:
            return b""
        if event.data is None or not event.data.strip():
            return KEEP_ALIVE
        if event.data.strip() == DONE:
            self._is_done = True
            return write_event(DONE)
        return self._read(event, event.data)

    def _read(self, event: StreamEvent, data: bytes) -> bytes:
        try:
            document = None if event.name == "error" else msgspec.json.decode(data)
        except (ValueError, RecursionError) as error:  # msgspec.DecodeError is a ValueError
            self._fault = self._fault or AnswerError("the model server's stream is not JSON", private=str(error))
            return write_event(data, event.name)
        if event.name == "error" or self._is_error(document):
            self._error = data
            return b""
        if self._fault is None:
            try:
                self._add(event, document)
            except AnswerError as fault:
                self._fault = fault
        return self._event(event, document) if isinstance(document, dict) else write_event(data, event.name)
