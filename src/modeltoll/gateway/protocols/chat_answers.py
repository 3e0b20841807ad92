"""Chat answers: nothing but what is known may stand in them, and measured tokens must cover everything that they show."""

from __future__ import annotations

import json
from itertools import chain
from typing import TYPE_CHECKING, Any

import msgspec

from modeltoll.errors import AnswerError
from modeltoll.gateway.protocols.answer_members import check_answer_members, is_short_text
from modeltoll.gateway.protocols.chat_members import CALL, CHOICE, CUT, DOCUMENT, FUNCTION, MESSAGE, STOPS, TEXT
from modeltoll.gateway.protocols.chat_requests import ChatNote
from modeltoll.gateway.protocols.request_members import has_value
from modeltoll.gateway.protocols.token_tables import check_counted, most_counted, token_table, with_end

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modeltoll.gateway.protocols.protocol import ServiceDescription
    from modeltoll.records import Answer, Floats

__all__ = [
    "LastDocument",
    "check_members",
    "check_token_count",
    "compact_arguments",
    "load_chat",
    "measured_tokens",
    "stop_bytes",
    "token_logprobs",
]


def load_chat(answer: Answer) -> Any:
    """The document of an answer. It is written anew before it goes out, so that a member that the server repeats is gone.

    Raises:
        AnswerError: it is not JSON, or holds a number or a text that JSON has not.
    """
    try:
        return msgspec.json.decode(answer.body)
    except (ValueError, RecursionError) as error:  # msgspec.DecodeError is a ValueError
        raise AnswerError("the model server's answer is not JSON", private=str(error)) from None


class LastDocument:
    """Keeps the document of the answer that was read last, until it is taken: an answer is measured, and written anew."""

    __slots__ = ("_answer", "_document")

    def __init__(self) -> None:
        self._answer: Answer | None = None
        self._document: Any = None

    def read(self, answer: Answer) -> Any:
        """The document of an answer, which must not be changed; raises as ``load_chat``."""
        document = load_chat(answer)
        self._answer, self._document = answer, document
        return document

    def take(self, answer: Answer) -> Any:
        """The document of an answer, which may be changed; it is not kept. Raises as ``load_chat``."""
        is_kept, document = self._answer is answer, self._document
        self._answer = self._document = None
        return document if is_kept else load_chat(answer)


def check_members(document: dict[str, Any], choices: list[dict[str, Any]], service: ServiceDescription) -> None:
    """Refuse an answer that holds something beside messages and log-probabilities of their tokens.

    Raises:
        AnswerError: it does.
    """
    check_answer_members(document, DOCUMENT, service)
    for choice in choices:
        check_answer_members(choice, CHOICE, service)
        check_answer_members(_message(choice), MESSAGE, service)


def _message(choice: dict[str, Any]) -> dict[str, Any]:
    message = choice.get("message")
    if not isinstance(message, dict):
        raise AnswerError("the model server's answer has a choice without a message")
    return message


def token_logprobs(choice: dict[str, Any]) -> list[Any]:
    """The tokens of a completion, or of the refusal that stands in its place; none where there are none.

    Raises:
        AnswerError: log-probabilities of something else beside them.
    """
    logprobs = choice.get("logprobs")
    if logprobs is None:
        return []
    known = isinstance(logprobs, dict) and logprobs.keys() <= {"content", "refusal"}
    found = [tokens for tokens in logprobs.values() if tokens is not None] if known else []
    if not known or not all(isinstance(tokens, list) for tokens in found):
        raise AnswerError("the model server's answer has log-probabilities of something else than its tokens")
    return list(chain.from_iterable(found))


def measured_tokens(choice: dict[str, Any], note: ChatNote, service: ServiceDescription) -> Floats:
    """The probabilities that are known of each token of a choice, (tokens, 21), 0 for those that are not.

    One column more than the API gives at most: the token's own, where it is not among the most probable ones.

    Raises:
        AnswerError: they are not probabilities, or do not cover what the choice shows.
    """
    tokens, message = token_logprobs(choice), _message(choice)
    table, covered = token_table(tokens)
    shown = _shown_bytes(message, note, service)
    if shown + stop_bytes(choice) > covered:
        called = any(has_value(message.get(name)) for name in ("tool_calls", "function_call"))
        calls = called and not tokens and not any(has_value(message.get(name)) for name in TEXT)
        raise AnswerError(
            "the model server gives no log-probabilities of calls of tools, which the price is made of: leave 'tools' out"
            if calls
            else "the model server's answer shows more than the tokens that it has log-probabilities of",
            private="the server must report log-probabilities of tool calls, reasoning and refusals too",
        )
    return table if choice.get("finish_reason") in CUT else with_end(table, tokens, _strings(message), chosen=note.ends)


def _strings(value: object) -> Iterator[str]:
    """All texts in a message."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)


def stop_bytes(choice: dict[str, Any]) -> int:
    """The length of the stop of the request that the model has written, where a choice names it: it shows what that was."""
    stops = {
        stop for name in STOPS if isinstance(stop := choice.get(name), str)
    }  # some servers write it under both names
    return sum(len(stop.encode("utf-8", "replace")) for stop in stops)


def _shown_bytes(message: dict[str, Any], note: ChatNote, service: ServiceDescription) -> int:
    """The length of what a message shows of the model, in bytes.

    Names of the caller's own functions do not count. But which of them is called shows something, so that a call without
    arguments is at least 1 byte.
    """
    texts = {name: _text(message[name]) for name in TEXT if has_value(message.get(name))}
    if texts.get("reasoning") == texts.get("reasoning_content"):  # some servers write it under both names
        texts.pop("reasoning", None)
    shown = sum(len(text.encode("utf-8", "replace")) for text in texts.values())
    calls = message.get("tool_calls") or []
    if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        raise AnswerError("the model server's answer has tool calls that are not a list of objects")
    functions = [message.get("function_call")]
    for call in calls:
        check_answer_members(call, CALL, service)
        called = [one for one in (call.get("function"), call.get("custom")) if one is not None]
        functions += called
        shown += not called  # its place and number alone
    return shown + sum(max(1, _call_bytes(one, note, service)) for one in functions if one is not None)


def _call_bytes(function: object, note: ChatNote, service: ServiceDescription) -> int:
    if not isinstance(function, dict):
        raise AnswerError("the model server's answer has a call of something that is not a function")
    check_answer_members(function, FUNCTION, service)
    name = function.get("name")
    parts = [compact_arguments(function.get("arguments")), compact_arguments(function.get("input"))]
    if name is not None and name not in note.names:
        parts.append(_text(name))
    return sum(len(part.encode("utf-8", "replace")) for part in parts)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("it repeats a member")
    return members


def _float(digits: str) -> float:
    if len(digits) > _FLOAT_DIGITS:
        raise ValueError("it has a number of more digits than a float holds")
    return float(digits)


_FLOAT_DIGITS = 25  # of a float as it is written, with its sign, point and exponent
_arguments = json.JSONDecoder(object_pairs_hook=_unique, parse_float=_float)


def compact_arguments(arguments: object) -> str:
    """Arguments without the white space and the escapes that servers add when they write them anew.

    Those that a reader of JSON takes only a part of, for a member stands there twice or a number has too many digits, are
    left as they are: the caller gets to see all of it.
    """
    if arguments is None:
        return ""
    try:
        value = _arguments.decode(arguments) if isinstance(arguments, str) else arguments
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    except (ValueError, RecursionError):
        return _text(arguments)


def _text(value: object) -> str:
    """A text, or a list of parts that are texts."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(part, dict) and part.keys() <= {"type", "text"} for part in value):
        texts = [part.get("text") for part in value]
        if all(isinstance(text, str) for text in texts) and all(is_short_text(part.get("type")) for part in value):
            return "".join(texts)
    raise AnswerError("the model server's answer has something that is not a text in place of one")


def check_token_count(document: dict[str, Any], choices: list[dict[str, Any]], note: ChatNote) -> None:
    """Compare the number of tokens that the server counted with those that were measured.

    Raises:
        AnswerError: more were made than were measured.
    """
    usage = document.get("usage")
    counted = usage.get("completion_tokens") if isinstance(usage, dict) else None
    if type(counted) is not int or not isinstance(usage, dict):
        return
    details = usage.get("completion_tokens_details")
    rejected = details.get("rejected_prediction_tokens") if isinstance(details, dict) else None
    counted -= rejected if type(rejected) is int else 0  # predicted by the caller, and not shown
    stopped = [note.stop if choice.get("finish_reason") == "stop" else 0 for choice in choices]
    check_counted(
        counted,
        sum(most_counted(token_logprobs(choice), stop) for choice, stop in zip(choices, stopped, strict=True)),
    )
