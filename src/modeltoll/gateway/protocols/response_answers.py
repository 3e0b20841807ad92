"""Answers of OpenAI's Responses API: what their items may hold, and measured tokens that must cover what they show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from modeltoll.errors import AnswerError
from modeltoll.gateway.protocols.answer_members import (
    ENVELOPE,
    ValueCheck,
    check_answer_members,
    is_anything,
    is_short_text,
)
from modeltoll.gateway.protocols.chat_answers import compact_arguments
from modeltoll.gateway.protocols.chat_members import DOCUMENT
from modeltoll.gateway.protocols.request_members import has_value, names
from modeltoll.gateway.protocols.response_requests import ResponseNote, leaves
from modeltoll.gateway.protocols.token_tables import check_counted, most_counted, token_table, with_end

if TYPE_CHECKING:
    from modeltoll.gateway.protocols.protocol import ServiceDescription
    from modeltoll.records import Floats

__all__ = [
    "check_item",
    "check_part",
    "check_response",
    "content_parts",
    "is_repeated",
    "measured_response",
    "output_items",
    "part_logprobs",
    "shown_texts",
]

_LIMITED = "incomplete"  # of an answer that did not end by itself
_ENDED = (None, "completed", _LIMITED)
_EXTRA_LEAVES = 64  # texts and numbers that a server adds to what it repeats of a request: defaults, names of members
_EXTRA_CHARACTERS = 64  # of such a text
_REPEATED = names(
    """instructions metadata parallel_tool_calls temperature tool_choice tools top_p background max_output_tokens
    max_tool_calls previous_response_id prompt_cache_key prompt_cache_retention reasoning safety_identifier service_tier
    store text top_logprobs truncation user frequency_penalty presence_penalty top_k min_p repetition_penalty seed stop
    image billing tool_usage"""
)


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_reason(value: object) -> bool:
    return isinstance(value, dict) and value.keys() <= {"reason"} and is_short_text(value.get("reason"))


_RESPONSE: Mapping[str, ValueCheck] = {
    **ENVELOPE,
    "created_at": _is_time,
    "completed_at": _is_time,
    "status": is_short_text,
    "incomplete_details": _is_reason,
    "output": is_anything,
    "output_text": is_anything,
    "system_fingerprint": is_short_text,
    "timings": DOCUMENT["timings"],
}
_ITEM: Mapping[str, ValueCheck] = {"id": is_short_text, "type": is_short_text, "status": is_short_text}
_CALL: Mapping[str, ValueCheck] = {
    **_ITEM,
    **dict.fromkeys(("call_id", "namespace"), is_short_text),
    **dict.fromkeys(("name", "arguments", "input"), is_anything),
}
_ITEMS: Mapping[str, Mapping[str, ValueCheck]] = {
    "message": {**_ITEM, "role": is_short_text, "phase": is_short_text, "content": is_anything},
    "reasoning": {**_ITEM, "summary": is_anything, "content": is_anything},
    "function_call": _CALL,
    "custom_tool_call": _CALL,
}
# The member of a part that holds its text, by the part's type.
_PARTS: Mapping[str, str] = {
    "output_text": "text",
    "refusal": "refusal",
    "reasoning_text": "text",
    "summary_text": "text",
}


def check_response(document: object, note: ResponseNote, service: ServiceDescription) -> None:
    """Refuse an answer that has not ended, or holds something beside its items and what it repeats of the request.

    Raises:
        AnswerError: it does.
    """
    if not isinstance(document, dict):
        raise AnswerError("the model server's answer is not an object")
    if document.get("status") not in _ENDED or has_value(document.get("error")):
        raise AnswerError("the model server's answer did not come to its end", private=str(document.get("error"))[:256])
    repeated = dict.fromkeys(_REPEATED, is_repeated(note))
    check_answer_members(document, {**repeated, **_RESPONSE}, service)
    if document.get("output_text"):  # some servers join the texts of all parts here
        shown = "".join(part["text"] for part in content_parts(document) if part.get("type") == "output_text")
        if document["output_text"] != shown:
            raise AnswerError("the model server's answer has an output_text that is not the text of its parts")


def is_repeated(note: ResponseNote) -> Callable[[object], bool]:
    """Whether a value repeats the request: all its texts and numbers are there, but for a few short ones."""

    def check(value: object) -> bool:
        added = set(leaves(value)) - note.leaves
        longest = max((len(one) for one in added if isinstance(one, str)), default=0)
        return len(added) <= _EXTRA_LEAVES and longest <= _EXTRA_CHARACTERS

    return check


def output_items(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The items of an answer.

    Raises:
        AnswerError: there is no list of them.
    """
    items = document.get("output")
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise AnswerError("the model server's answer has no list of items called 'output'")
    return items


def _parts_of(item: dict[str, Any]) -> list[Any]:
    parts: list[Any] = []
    for member in ("content", "summary"):
        found = item.get(member) or []
        if not isinstance(found, list):
            raise AnswerError("the model server's answer has an item whose parts are no list")
        parts += found
    return parts


def content_parts(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The parts of all messages and of all reasoning of an answer, each checked to have a text; raises ``AnswerError``."""
    parts = [part for item in output_items(document) for part in _parts_of(item)]
    for part in parts:
        _part_text(part)
    return parts


def part_logprobs(part: dict[str, Any]) -> list[Any]:
    """The tokens of a part; none where there are none.

    Raises:
        AnswerError: they are no list.
    """
    tokens = part.get("logprobs") or []
    if not isinstance(tokens, list):
        raise AnswerError("the model server's answer has log-probabilities that are not one per token")
    return tokens


def measured_response(document: dict[str, Any], note: ResponseNote, service: ServiceDescription) -> Floats:
    """The probabilities that are known of each token of an answer, (tokens, 21); see ``token_table``.

    Raises:
        AnswerError: they are not probabilities, do not cover what the answer shows, or are fewer than the server counted.
    """
    shown, tokens = 0, []
    for item in output_items(document):
        check_item(item, service)
        shown += _shown_bytes(item, note)
        tokens += [token for part in _parts_of(item) for token in part_logprobs(part)]
    table, covered = token_table(tokens)
    if shown > covered:
        _refuse(document, tokens)
    usage = document.get("usage")
    counted = usage.get("output_tokens") if isinstance(usage, dict) else None
    if type(counted) is int:
        check_counted(counted, most_counted(tokens, note.stop))
    texts = (text for item in output_items(document) for text in shown_texts(item))
    return table if document.get("status") == _LIMITED else with_end(table, tokens, texts, chosen=note.ends)


def _refuse(document: dict[str, Any], tokens: list[Any]) -> None:
    kinds = {item.get("type") for item in output_items(document)}
    private = "the server must give log-probabilities to include: ['message.output_text.logprobs'], of reasoning and calls too"
    if not tokens and kinds and kinds <= {"function_call", "custom_tool_call", "reasoning"}:
        raise AnswerError(
            "the model server gives no log-probabilities of calls of tools, which the price is made of: leave 'tools' out",
            private=private,
        )
    raise AnswerError(
        "the model server's answer shows more than the tokens that it has log-probabilities of", private=private
    )


def check_item(item: dict[str, Any], service: ServiceDescription) -> None:
    """Refuse an item of a kind that is not measured, unless ``service.unmeasured`` has its type.

    Raises:
        AnswerError: it is one, or holds something else.
    """
    kind = item.get("type")
    if isinstance(kind, str) and kind in service.unmeasured:
        return
    known = _ITEMS.get(kind) if isinstance(kind, str) else None
    if known is None:
        raise AnswerError(
            f"the model server's answer has an item of type {str(kind)[:64]!r} that is not measured",
            private="let the model server leave it out, or list its type in output.unmeasured",
        )
    check_answer_members(item, known, service)
    for part in _parts_of(item):
        check_part(part, service)


def check_part(part: object, service: ServiceDescription) -> None:
    """Refuse a part that holds something beside a text and its log-probabilities; raises ``AnswerError``."""
    _part_text(part)
    assert isinstance(part, dict)  # _part_text has seen it
    text = _PARTS[part["type"]]
    check_answer_members(part, {"type": is_short_text, text: is_anything, "logprobs": is_anything}, service)


def _part_text(part: object) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    member = _PARTS.get(kind) if isinstance(kind, str) else None
    text = part.get(member) if isinstance(part, dict) and member is not None else None
    if not isinstance(text, str):
        raise AnswerError("the model server's answer has a part that is not a text, a refusal or reasoning")
    return text


def shown_texts(item: dict[str, Any]) -> list[str]:
    """The texts of an item: of its parts, or the name and the arguments of its call."""
    texts = [_part_text(part) for part in _parts_of(item)]
    return [*texts, *(str(item[name]) for name in ("name", "arguments", "input") if item.get(name))]


def _shown_bytes(item: dict[str, Any], note: ResponseNote) -> int:
    """The length of what an item shows of the model, in bytes; at least 1 for a call, for it shows which function is called.

    Names of the caller's own functions do not count.
    """
    if item.get("type") not in ("function_call", "custom_tool_call"):
        return (
            sum(len(_part_text(part).encode("utf-8", "replace")) for part in _parts_of(item))
            if item.get("type") in _ITEMS
            else 0
        )
    parts = [compact_arguments(item.get("arguments")), compact_arguments(item.get("input"))]
    name = item.get("name")
    if name is not None and name not in note.names:
        parts.append(str(name))
    return max(1, sum(len(part.encode("utf-8", "replace")) for part in parts))
