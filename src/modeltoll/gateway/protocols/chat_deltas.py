"""The pieces in which streamed chats come: one completion, and one call of a tool, as far as it has come."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from modeltoll.errors import AnswerError
from modeltoll.gateway.protocols.answer_members import ValueCheck, check_answer_members, is_anything
from modeltoll.gateway.protocols.chat_members import CALL, CHOICE, FUNCTION, MESSAGE, TEXT
from modeltoll.gateway.protocols.request_members import has_value

if TYPE_CHECKING:
    from modeltoll.gateway.protocols.protocol import ServiceDescription

__all__ = ["WRONG_SHAPE", "ChoiceDeltas", "agree", "objects_of", "text_of"]


def _never(value: object) -> bool:
    """No value: events have deltas in place of it."""
    del value
    return False


_CHOICE: Mapping[str, ValueCheck] = {**CHOICE, "message": _never, "delta": is_anything}
_PLAIN = ("finish_reason", "stop_reason", "matched_stop")
_LOGPROBS = ("content", "refusal")
WRONG_SHAPE = "the model server's stream has an event that is not one of its completions"


class ChoiceDeltas:
    """One completion, as far as it has come."""

    def __init__(self, index: int, service: ServiceDescription) -> None:
        self._service = service
        self._members: dict[str, Any] = {"index": index}
        self._message: dict[str, Any] = {}
        self._texts: dict[str, list[str]] = {}
        self._calls: dict[int, _Call] = {}
        self._function = _Call(service)
        self._logprobs: dict[str, list[bytes]] = {}
        self.has_begun = False

    @property
    def has_ended(self) -> bool:
        return "finish_reason" in self._members

    def add(self, event: dict[str, Any]) -> None:
        self.has_begun = True
        check_answer_members(event, _CHOICE, self._service)
        for name, value in event.items():
            if name in _PLAIN and has_value(value):
                agree(self._members, name, value)
            elif name in self._service.unmeasured:
                self._members[name] = value
        self._add_logprobs(event.get("logprobs"))
        delta = event.get("delta")
        if delta is None:
            return
        if not isinstance(delta, dict):
            raise AnswerError(WRONG_SHAPE)
        check_answer_members(delta, MESSAGE, self._service)
        for name, value in delta.items():
            self._add_delta(name, value)

    def _add_delta(self, name: str, value: Any) -> None:
        if name in TEXT:
            if value is not None:
                self._texts.setdefault(name, []).append(text_of(value))
        elif name == "tool_calls":
            for place, call in enumerate(objects_of(value)):
                self._call(call.get("index"), place).add(call)
        elif name == "function_call":
            if value is not None:
                self._function.add({"function": value})
        elif has_value(value):
            if name in self._service.unmeasured:
                self._message[name] = value
            else:
                agree(self._message, name, value)

    def _call(self, index: object, place: int) -> _Call:
        """The call with this number. Calls begin in their order: else a number alone could tell something."""
        number = place if index is None else index
        if type(number) is not int or not 0 <= number <= len(self._calls):
            raise AnswerError("the model server's stream has a call of a tool that is not the next one")
        return self._calls.setdefault(number, _Call(self._service))

    def _add_logprobs(self, logprobs: object) -> None:
        if logprobs is None:
            return
        if not isinstance(logprobs, dict) or not logprobs.keys() <= set(_LOGPROBS):
            raise AnswerError("the model server's answer has log-probabilities of something else than its tokens")
        for name, tokens in logprobs.items():
            if isinstance(tokens, list):
                self._logprobs.setdefault(name, []).extend([msgspec.json.encode(tokens)[1:-1]] if tokens else [])
            elif tokens is not None:
                raise AnswerError(WRONG_SHAPE)

    def document(self) -> dict[str, Any]:
        message = {"role": "assistant", "content": None} | self._message
        message |= {name: "".join(pieces) for name, pieces in self._texts.items()}
        if self._calls:
            message["tool_calls"] = [call.document() for _, call in sorted(self._calls.items())]
        if self._function.has_begun:
            message["function_call"] = self._function.document()["function"]
        logprobs = {name: msgspec.Raw(b"[%b]" % b",".join(tokens)) for name, tokens in self._logprobs.items()}
        return {"finish_reason": None} | self._members | {"message": message, "logprobs": logprobs or None}


class _Call:
    """One call of a tool: its members, and the pieces of its name and arguments."""

    def __init__(self, service: ServiceDescription) -> None:
        self._service = service
        self._members: dict[str, Any] = {}
        self._pieces: dict[tuple[str, str], list[str]] = {}  # by the kind of call and the member
        self.has_begun = False

    def add(self, delta: dict[str, Any]) -> None:
        self.has_begun = True
        check_answer_members(delta, CALL, self._service)
        for name, value in delta.items():
            if name in ("function", "custom"):
                if value is not None:
                    self._add_function(name, value)
            elif name != "index" and has_value(value):
                agree(self._members, name, value)

    def _add_function(self, kind: str, function: object) -> None:
        if not isinstance(function, dict):
            raise AnswerError("the model server's answer has a call of something that is not a function")
        check_answer_members(function, FUNCTION, self._service)
        for name, value in function.items():
            if value is None:
                continue
            pieces = self._pieces.setdefault((kind, name), [])
            piece = text_of(value) if not isinstance(value, dict) else msgspec.json.encode(value).decode()
            if name != "name" or "".join(pieces) != piece:  # some servers repeat the name
                pieces.append(piece)

    def document(self) -> dict[str, Any]:
        document = dict(self._members)
        for (kind, name), pieces in self._pieces.items():
            document.setdefault(kind, {})[name] = "".join(pieces)
        return document


def agree(known: dict[str, Any], name: str, value: object) -> None:
    """Take a value, which must be the same wherever it stands.

    Raises:
        AnswerError: ``known`` has another value of this name.
    """
    if known.setdefault(name, value) != value:
        raise AnswerError(
            f"the model server's stream has another value of {name[:64]!r} in a later event",
            private="let the model server leave it out, or list it in output.unmeasured",
        )


def objects_of(value: object) -> list[dict[str, Any]]:
    """The objects of a list; none where it is null.

    Raises:
        AnswerError: it is something else.
    """
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise AnswerError(WRONG_SHAPE)
    return value


def text_of(value: object) -> str:
    """The value, which must be a text; raises ``AnswerError``."""
    if not isinstance(value, str):
        raise AnswerError("the model server's answer has something that is not a text in place of one")
    return value
