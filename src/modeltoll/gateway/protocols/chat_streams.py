"""Streamed chats: each event is checked and written anew, and their deltas make the answer that had not been streamed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from modeltoll.errors import AnswerError
from modeltoll.gateway.protocols.answer_members import check_answer_members, is_anything
from modeltoll.gateway.protocols.chat_deltas import WRONG_SHAPE, ChoiceDeltas, agree, objects_of
from modeltoll.gateway.protocols.chat_members import DOCUMENT
from modeltoll.gateway.protocols.event_reader import EventReader
from modeltoll.gateway.protocols.event_stream import write_event
from modeltoll.gateway.protocols.request_members import has_value
from modeltoll.gateway.protocols.token_tables import cut_alternatives

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modeltoll.gateway.protocols.answer_members import ValueCheck
    from modeltoll.gateway.protocols.protocol import ServiceDescription

__all__ = ["ChatStream", "Deltas", "without_logprobs"]

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
        cut_alternatives(tokens, asked)


class Deltas(Protocol):
    """One completion, as far as it has come."""

    has_begun: bool

    @property
    def has_ended(self) -> bool:
        """Whether it said why it ended."""

    def add(self, event: dict[str, Any]) -> None:
        """Add a choice of an event; raises ``AnswerError`` where it holds what is not measured."""

    def document(self) -> dict[str, Any]:
        """The choice as if it had not been streamed."""


class ChatStream(EventReader):
    """Reads the stream of one chat; see ``StreamReader``.

    ``asked``: the log-probabilities per token that the caller wants, as in ``without_logprobs``; ``choices``: the number of
    completions; ``usage``: whether the caller wants the numbers of tokens.
    """

    _object = "chat.completion"  # of the whole answer

    def __init__(self, asked: int | None, choices: int, service: ServiceDescription, *, usage: bool) -> None:
        super().__init__()
        self._asked, self._usage, self._service = asked, usage, service
        self._members: dict[str, Any] = {}
        self._choices = [self._deltas(index) for index in range(choices)]

    def _deltas(self, index: int) -> Deltas:
        return ChoiceDeltas(index, self._service)

    def _show(self, choice: dict[str, Any]) -> None:
        """Leave out of a choice what the caller did not ask for."""
        without_logprobs(choice, self._asked)

    def _has_ended(self) -> bool:
        return all(choice.has_ended for choice in self._choices)

    def _document(self) -> dict[str, Any]:
        choices = [choice.document() for choice in self._choices if choice.has_begun]
        return self._members | {"object": self._object, "choices": choices}

    def _event(self, name: str, document: dict[str, Any]) -> bytes:
        document.pop("obfuscation", None)
        choices = document.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict):
                self._show(choice)
        if not self._usage and has_value(document.pop("usage", None)) and choices == []:
            return b""  # the event was sent for the gateway alone
        return write_event(msgspec.json.encode(document), name)

    def _add(self, name: str, document: Any) -> None:
        if name or not isinstance(document, dict):
            raise AnswerError(WRONG_SHAPE, private=f"it has the name {name[:64]!r}" if name else "")
        self._add_members(document)
        for choice in objects_of(document.get("choices")):
            self._choice(choice).add(choice)

    def _add_members(self, event: dict[str, Any]) -> None:
        """What stands in each event is the same in all: else it could hold what nobody measures."""
        check_answer_members(event, _EVENT, self._service)
        for name, value in event.items():
            if name in ("choices", "obfuscation") or not has_value(value):
                continue
            if name in _LATEST or name in self._service.unmeasured:
                self._members[name] = value
            elif name == "created":
                event[name] = self._members.setdefault(name, value)  # some servers write the time of each event
            else:
                agree(self._members, name, value)

    def _choice(self, event: dict[str, Any]) -> Deltas:
        index = event.get("index", 0)
        if type(index) is not int or not 0 <= index < len(self._choices):
            raise AnswerError("the model server's stream has a choice that was not asked for")
        return self._choices[index]
