"""Streams of the Responses API: every event repeats a piece of the answer that stands in the last one.

What an event shows must be there too, so that it is measured; its log-probabilities are those of the answer, or take their
place where the last event has none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from modeltoll.errors import AnswerError
from modeltoll.gateway.protocols.answer_members import (
    ValueCheck,
    check_answer_members,
    is_anything,
    is_count,
    is_short_text,
)
from modeltoll.gateway.protocols.chat_deltas import text_of
from modeltoll.gateway.protocols.event_reader import EventReader
from modeltoll.gateway.protocols.event_stream import write_event
from modeltoll.gateway.protocols.response_answers import (
    check_item,
    check_part,
    check_response,
    content_parts,
    output_items,
    part_logprobs,
    shown_texts,
)
from modeltoll.gateway.protocols.response_shown import show_logprobs, show_setting

if TYPE_CHECKING:
    from modeltoll.gateway.protocols.protocol import ServiceDescription
    from modeltoll.gateway.protocols.response_requests import ResponseNote

__all__ = ["ResponseStream"]

_PLACES = ("output_index", "content_index", "summary_index")
_COMMON: Mapping[str, ValueCheck] = {
    **dict.fromkeys((*_PLACES, "sequence_number"), is_count),
    **dict.fromkeys(("type", "item_id"), is_short_text),
    "obfuscation": is_anything,  # which is left out
}
_BEGIN = ("response.created", "response.in_progress", "response.queued")
_END = ("response.completed", "response.incomplete")
# The member that holds an event's text, or what else it has.
_TEXTS: Mapping[str, str] = {
    "response.output_text": "text",
    "response.refusal": "refusal",
    "response.reasoning_text": "text",
    "response.reasoning_summary_text": "text",
    "response.function_call_arguments": "arguments",
    "response.custom_tool_call_input": "input",
}
_HOLDERS: Mapping[str, str] = {
    "response.output_item": "item",
    "response.content_part": "part",
    "response.reasoning_part": "part",
    "response.reasoning_summary_part": "part",
}
_NOT_ITS_OWN = "the model server's stream shows something that is not in its last event"


def _token_key(token: Any) -> bytes:
    """A token with its log-probabilities, however an event writes it: some leave the bytes out."""
    if not isinstance(token, dict):
        raise AnswerError("the model server's answer has no log-probabilities for a token")
    shown = token.get("top_logprobs") or []
    if not isinstance(shown, list):
        raise AnswerError("the model server's answer has no log-probabilities for a token")
    alternatives = [[one.get("token"), one.get("logprob")] for one in shown if isinstance(one, dict)]
    return msgspec.json.encode([token.get("token"), token.get("logprob"), alternatives])


class ResponseStream(EventReader):
    """Reads the stream of one answer; see ``StreamReader``. ``asked`` as in ``show_logprobs``."""

    def __init__(self, asked: int | None, note: ResponseNote, service: ServiceDescription) -> None:
        super().__init__()
        self._asked, self._note, self._service = asked, note, service
        self._final: dict[str, Any] | None = None
        self._deltas: dict[tuple[object, ...], list[str]] = {}
        self._texts: set[str] = set()
        self._tokens: dict[tuple[object, ...], list[Any]] = {}  # of deltas, by the place of their part
        self._repeated: list[list[Any]] = []  # tokens of events that repeat a whole text

    def _is_error(self, document: object) -> bool:
        failed = isinstance(document, dict) and document.get("type") in ("error", "response.failed")
        return failed or super()._is_error(document)

    def _has_ended(self) -> bool:
        return self._final is not None

    def _add(self, name: str, document: Any) -> None:
        kind = document.get("type") if isinstance(document, dict) else None
        if not isinstance(kind, str) or name not in ("", kind) or self._final is not None:
            raise AnswerError("the model server's stream has an event that is not one of a response")
        subject, _, step = kind.rpartition(".")
        if kind in _BEGIN or kind in _END:
            self._add_response(document, kind)
        elif subject in _TEXTS:
            self._add_text(document, _TEXTS[subject], step, (subject, *map(document.get, _PLACES)))
        elif subject in _HOLDERS:
            self._add_holder(document, _HOLDERS[subject])
        elif subject.partition(".")[2] not in self._service.unmeasured:
            raise AnswerError(f"the model server's stream has an event of type {kind[:64]!r}, which is not measured")

    def _add_response(self, document: dict[str, Any], kind: str) -> None:
        check_answer_members(document, {**_COMMON, "response": is_anything}, self._service)
        response = document.get("response")
        if kind in _END:
            check_response(response, self._note, self._service)
            # A copy: the event itself is changed when it is written.
            self._final = msgspec.json.decode(msgspec.json.encode(response))
            return
        if not isinstance(response, dict) or output_items(response) or not is_short_text(response.get("status") or ""):
            raise AnswerError(_NOT_ITS_OWN)
        check_response(response | {"status": None}, self._note, self._service)

    def _add_text(self, document: dict[str, Any], member: str, step: str, place: tuple[object, ...]) -> None:
        known = {"delta": is_anything} if step == "delta" else {member: is_anything, "name": is_short_text}
        check_answer_members(document, {**_COMMON, **known, "logprobs": is_anything}, self._service)
        # An empty list, which a client may read as nothing, is no place.
        place = tuple(one if isinstance(one, int | float | str) else None for one in place)
        text, tokens = text_of(document.get("delta" if step == "delta" else member)), part_logprobs(document)
        if step == "delta":
            self._deltas.setdefault(place, []).append(text)
            self._tokens.setdefault(place[1:3], []).extend(
                map(dict, tokens) if all(isinstance(one, dict) for one in tokens) else [None]
            )
            return
        self._texts.update((text, str(document.get("name") or "")))
        self._repeated.append([_token_key(token) for token in tokens])

    def _add_holder(self, document: dict[str, Any], member: str) -> None:
        check_answer_members(document, {**_COMMON, member: is_anything}, self._service)
        item = document.get(member)
        if member == "part":
            check_part(item, self._service)
            item = {"type": "message", "content": [item]}
        if not isinstance(item, dict):
            raise AnswerError("the model server's stream has an event that is not one of a response")
        check_item(item, self._service)
        self._texts.update(shown_texts(item))
        tokens = [token for part in content_parts({"output": [item]}) for token in part_logprobs(part)]
        self._repeated.append([_token_key(token) for token in tokens])

    def _event(self, name: str, document: dict[str, Any]) -> bytes:
        document.pop("obfuscation", None)
        try:
            for holder in _holders(document):
                show_logprobs(holder, self._asked)
            if isinstance(document.get("response"), dict):
                show_setting(document["response"], self._note)
        except AnswerError:
            pass  # it was a fault
        return write_event(msgspec.json.encode(document), name)

    def _document(self) -> dict[str, Any]:
        if self._final is None:
            raise AnswerError("the model server's stream ended before its answer was complete")
        self._check_texts(self._final)
        parts = content_parts(self._final)
        if not any(map(part_logprobs, parts)):
            self._take_tokens(self._final)
        measured = Counter(_token_key(token) for part in parts for token in part_logprobs(part))
        shown = [[_token_key(token) for tokens in self._tokens.values() for token in tokens], *self._repeated]
        if any(Counter(tokens) - measured for tokens in shown):
            raise AnswerError(_NOT_ITS_OWN, private="it has log-probabilities that the last event has not")
        return self._final

    def _check_texts(self, final: dict[str, Any]) -> None:
        """Each text of an event is the beginning of one of the answer, but for white space, which servers cut off."""
        whole = ["".join(text.split()) for item in output_items(final) for text in shown_texts(item)]
        for text in (*self._texts, *map("".join, self._deltas.values())):
            begin = "".join(text.split())
            if begin and not any(one.startswith(begin) for one in whole):
                raise AnswerError(_NOT_ITS_OWN)

    def _take_tokens(self, final: dict[str, Any]) -> None:
        """The log-probabilities of the deltas, for the parts that they are pieces of."""
        for (output, content), tokens in self._tokens.items():
            items = output_items(final)
            item = items[output] if isinstance(output, int) and 0 <= output < len(items) else {}
            parts = item.get("content") or []
            if isinstance(content, int) and 0 <= content < len(parts):
                parts[content]["logprobs"] = tokens


def _holders(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What of an event has log-probabilities: itself, its part, and the parts of its item or answer."""
    yield document
    if isinstance(document.get("part"), dict):
        yield document["part"]
    if isinstance(document.get("item"), dict):
        yield from content_parts({"output": [document["item"]]})
    if isinstance(document.get("response"), dict):
        yield from content_parts(document["response"])
