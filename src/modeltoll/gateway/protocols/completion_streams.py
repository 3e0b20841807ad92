"""Streamed completions of texts: their pieces make the answer that had not been streamed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modeltoll.errors import AnswerError
from modeltoll.gateway.protocols.answer_members import check_answer_members
from modeltoll.gateway.protocols.chat_deltas import agree, text_of
from modeltoll.gateway.protocols.chat_streams import ChatStream, Deltas
from modeltoll.gateway.protocols.completion_answers import COMPLETION_CHOICE, LISTS, shown_logprobs
from modeltoll.gateway.protocols.request_members import has_value

if TYPE_CHECKING:
    from modeltoll.gateway.protocols.protocol import ServiceDescription

__all__ = ["CompletionStream"]

_LOGPROBS = frozenset((*LISTS, "content", "refusal"))  # in either shape: one list for each


class CompletionStream(ChatStream):
    """Reads the stream of some completions; see ``ChatStream``, whose arguments it has."""

    _object = "text_completion"

    def _deltas(self, index: int) -> Deltas:
        return _TextDeltas(index, self._service)

    def _show(self, choice: dict[str, Any]) -> None:
        if "logprobs" in choice:
            choice["logprobs"] = shown_logprobs(choice["logprobs"], self._asked)


class _TextDeltas:
    """One completion, as far as it has come."""

    def __init__(self, index: int, service: ServiceDescription) -> None:
        self._service = service
        self._members: dict[str, Any] = {"index": index}
        self._pieces: list[str] = []
        self._logprobs: dict[str, list[Any]] = {}
        self.has_begun = False

    @property
    def has_ended(self) -> bool:
        return "finish_reason" in self._members

    def add(self, event: dict[str, Any]) -> None:
        self.has_begun = True
        check_answer_members(event, COMPLETION_CHOICE, self._service)
        text = event.get("text")
        self._pieces.append("" if text is None else text_of(text))
        self._add_logprobs(event.get("logprobs"))
        for name, value in event.items():
            if name in self._service.unmeasured:
                self._members[name] = value
            elif name not in ("index", "text", "logprobs") and has_value(value):
                agree(self._members, name, value)

    def _add_logprobs(self, logprobs: object) -> None:
        if logprobs is None:
            return
        if not isinstance(logprobs, dict) or not logprobs.keys() <= _LOGPROBS:
            raise AnswerError("the model server's answer has log-probabilities of something else than its tokens")
        for name, items in logprobs.items():
            if items is not None and not isinstance(items, list):
                raise AnswerError("the model server's answer has log-probabilities that are not one per token")
            copies = (dict(item) if isinstance(item, dict) else item for item in items or ())  # the event's own are cut
            self._logprobs.setdefault(name, []).extend(copies)

    def document(self) -> dict[str, Any]:
        texts = {"text": "".join(self._pieces), "logprobs": self._logprobs or None}
        return {"finish_reason": None} | self._members | texts
