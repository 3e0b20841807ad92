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
    def _add(self, name: str, document: Any) -> None:
        """Add an event of this name to the answer.

        Raises:
            AnswerError: it holds what is not measured.
        """

    @abstractmethod
    def _event(self, name: str, document: dict[str, Any]) -> bytes:
        """The event as the caller gets it, without what they did not ask for."""

    @abstractmethod
    def _has_ended(self) -> bool:
        """Whether the answer is complete, though no event said that the stream is."""

    @abstractmethod
    def _document(self) -> Any:
        """The whole answer; raises ``AnswerError``."""

    def _is_error(self, document: object) -> bool:
        return isinstance(document, dict) and (has_value(document.get("error")) or document.get("object") == "error")

    def _is_over(self) -> bool:
        """Whether nothing more is read."""
        return self._is_done or self._error is not None

    def feed(self, chunk: bytes) -> bytes:
        """See ``StreamReader.feed``. The text of a comment, and an error with all that follows it, are left out."""
        if self._is_over():
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
        if self._is_over():
            return b""
        data = None if event.data is None else event.data.strip()
        if not data:
            return KEEP_ALIVE
        if data == DONE:
            self._is_done = True
            return write_event(DONE)
        document = self._decoded(event.name, data)
        if self._is_over():
            return b""
        if not isinstance(document, dict):
            return write_event(data, event.name)
        return self._event(event.name, document)

    def _decoded(self, name: str, data: bytes) -> Any:
        """The document of an event, which is added to the answer; None if it cannot be read, or is an error."""
        if name == "error":
            self._error = data
            return None
        try:
            document = msgspec.json.decode(data)
        except (ValueError, RecursionError) as error:  # msgspec.DecodeError is a ValueError
            self._fault = self._fault or AnswerError("the model server's stream is not JSON", private=str(error))
            return None
        if self._is_error(document):
            self._error = data
        elif self._fault is None:
            try:
                self._add(name, document)
            except AnswerError as fault:
                self._fault = fault
        return document
