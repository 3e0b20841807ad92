"""Streamed chats: each event is checked and written anew, and their deltas make the answer that had not been streamed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from modeltoll.errors import AnswerError, StreamBroken
from modeltoll.gateway.protocols.answer_members import check_answer_members, is_anything
from modeltoll.gateway.protocols.chat_deltas import WRONG_SHAPE, ChoiceDeltas, agree, objects_of
from modeltoll.gateway.protocols.chat_members import DOCUMENT
from modeltoll.gateway.protocols.event_stream import DONE, KEEP_ALIVE, EventParser, write_event
from modeltoll.gateway.protocols.protocol import JSON
from modeltoll.gateway.protocols.request_members import has_value
from modeltoll.records import Answer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modeltoll.gateway.protocols.answer_members import ValueCheck
    from modeltoll.gateway.protocols.event_stream import StreamEvent
    from modeltoll.gateway.protocols.protocol import ServiceDescription

__all__ = ["ChatStream", "without_logprobs"]

_EVENT: Mapping[str, ValueCheck] = {**DOCUMENT, "obfuscation": is_anything}  # which is left out
_LATEST = ("usage", "timings")  # members of an event that may change


def without_logprobs(choice: dict[str, Any], asked: int | None) -> None:
    """Leave out of a choice the log-probabilities that its caller did not ask for; ``asked``: per token; None: none at all."""
    logprobs = choice.get("logprobs")
    if asked is None:
        if "logprobs" in choice:
            choice["logprobs"] = None
        return
    for tokens in logprobs.values() if isinstance(logprobs, dict) else ():
        for token in tokens if isinstance(tokens, list) else ():
            if isinstance(token, dict) and isinstance(token.get("top_logprobs"), list):
                token["top_logprobs"] = token["top_logprobs"][:asked]


class ChatStream:
    """Reads the stream of one chat; see ``StreamReader``.

    ``asked``: the log-probabilities per token that the caller wants, as in ``without_logprobs``; ``choices``: the number of
    completions; ``usage``: whether the caller wants the numbers of tokens.
    """

    def __init__(self, asked: int | None, choices: int, service: ServiceDescription, *, usage: bool) -> None:
        self._asked, self._usage, self._service = asked, usage, service
        self._parser = EventParser()
        self._document: dict[str, Any] = {}
        self._choices = [ChoiceDeltas(index, service) for index in range(choices)]
        self._fault: AnswerError | None = None  # the first thing that cannot be measured
        self._error: bytes | None = None  # the server's own
        self._is_done = False

    def feed(self, chunk: bytes) -> bytes:
        """See ``StreamReader.feed``. The text of a comment, and that of an error, is left out."""
        if self._is_done or self._error is not None:
            return b""
        try:
            events = self._parser.feed(chunk)
        except AnswerError as error:
            self._fault = self._error_as_fault(error)
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
        if not (self._is_done or all(choice.has_ended for choice in self._choices)):
            raise AnswerError("the model server's stream ended before its answer was complete")
        choices = [choice.document() for choice in self._choices if choice.has_begun]
        document = self._document | {"object": "chat.completion", "choices": choices}
        return Answer(200, JSON, msgspec.json.encode(document))

    def _error_as_fault(self, error: AnswerError) -> AnswerError:
        self._is_done = True  # nothing more can be read
        return self._fault or error

    def _written(self, event: StreamEvent) -> bytes:
        if self._is_done or self._error is not None:
            return b""
        if event.data is None or not event.data.strip():
            return KEEP_ALIVE
        if event.data.strip() == DONE:
            self._is_done = True
            return write_event(DONE)
        try:
            document = msgspec.json.decode(event.data)
        except (ValueError, RecursionError) as error:  # msgspec.DecodeError is a ValueError
            self._fault = self._fault or AnswerError("the model server's stream is not JSON", private=str(error))
            return write_event(event.data, event.name)
        if _is_error(event, document):
            self._error = event.data
            return b""
        self._add(event, document)
        return self._event(event, document)

    def _event(self, event: StreamEvent, document: Any) -> bytes:
        """The event without what the caller did not ask for."""
        if not isinstance(document, dict):
            return write_event(event.data or b"", event.name)
        document.pop("obfuscation", None)
        choices = document.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict):
                without_logprobs(choice, self._asked)
        if not self._usage and has_value(document.pop("usage", None)) and choices == []:
            return b""  # the event was sent for the gateway alone
        return write_event(msgspec.json.encode(document), event.name)

    def _add(self, event: StreamEvent, document: Any) -> None:
        """Add an event to the answer, as long as all of them could be measured."""
        if self._fault is not None:
            return
        if event.name or not isinstance(document, dict):
            self._fault = AnswerError(WRONG_SHAPE, private=f"it has the name {event.name[:64]!r}" if event.name else "")
            return
        try:
            self._add_members(document)
            for choice in objects_of(document.get("choices")):
                self._choice(choice).add(choice)
        except AnswerError as fault:
            self._fault = fault

    def _add_members(self, event: dict[str, Any]) -> None:
        """What stands in each event is the same in all: else it could hold what nobody measures."""
        check_answer_members(event, _EVENT, self._service)
        for name, value in event.items():
            if name in ("choices", "obfuscation") or not has_value(value):
                continue
            if name in _LATEST or name in self._service.unmeasured:
                self._document[name] = value
            elif name == "created":
                event[name] = self._document.setdefault(name, value)  # some servers write the time of each event
            else:
                agree(self._document, name, value)

    def _choice(self, event: dict[str, Any]) -> ChoiceDeltas:
        index = event.get("index", 0)
        if type(index) is not int or not 0 <= index < len(self._choices):
            raise AnswerError("the model server's stream has a choice that was not asked for")
        return self._choices[index]


def _is_error(event: StreamEvent, document: Any) -> bool:
    if event.name == "error":
        return True
    return isinstance(document, dict) and (has_value(document.get("error")) or document.get("object") == "error")
