"""Chat answers: nothing but what is known may stand in them, and measured tokens must cover everything that they show."""

from __future__ import annotations

import json
import math
from itertools import chain
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from modeltoll.errors import AnswerError
from modeltoll.gateway.protocols.answer_members import check_answer_members, is_short_text
from modeltoll.gateway.protocols.chat_members import CALL, CHOICE, DOCUMENT, FUNCTION, MESSAGE, TEXT
from modeltoll.gateway.protocols.chat_requests import ChatNote
from modeltoll.gateway.protocols.request_members import has_value

if TYPE_CHECKING:
    from modeltoll.gateway.protocols.protocol import ServiceDescription
    from modeltoll.records import Answer, Floats

__all__ = ["MOST", "check_members", "check_token_count", "load_chat", "measured_tokens", "token_logprobs"]

MOST = 20  # log-probabilities per token that the API gives at most
_ROUNDING = 1e-3
_LEAST = -1000.0  # a log-probability whose probability is 0 in 64 bits
_END_TOKENS = 2  # of a completion: tokens that end it are counted by some servers and not reported
_ASCII = 0x80


_SHOWS_MORE = "the model server's answer shows more of a token than its log-probabilities"
_TOKEN = frozenset(("token", "logprob", "bytes", "top_logprobs", "id"))


def load_chat(answer: Answer) -> Any:
    """The document of an answer. It is written anew before it goes out, so that a member that the server repeats is gone.

    Raises:
        AnswerError: it is not JSON, or holds a number or a text that JSON has not.
    """
    try:
        return msgspec.json.decode(answer.body)
    except (ValueError, RecursionError) as error:  # msgspec.DecodeError is a ValueError
        raise AnswerError("the model server's answer is not JSON", private=str(error)) from None


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
    tokens = token_logprobs(choice)
    table, covered = np.zeros((len(tokens), MOST + 1)), 0
    for row, token in enumerate(tokens):
        known = _known(token)
        table[row, : len(known)] = known
        covered += _token_bytes(token) + 1  # decoded one by one, tokens of some tokenizers lose the space before them
    if (table.sum(axis=1) > 1 + _ROUNDING).any():
        raise AnswerError("the log-probabilities of a token sum to more than 1")
    if _shown_bytes(_message(choice), note, service) > covered:
        calls = not tokens and not any(has_value(_message(choice).get(name)) for name in TEXT)
        raise AnswerError(
            "the model server gives no log-probabilities of calls of tools, which the price is made of: leave 'tools' out"
            if calls
            else "the model server's answer shows more than the tokens that it has log-probabilities of",
            private="the server must report log-probabilities of tool calls, reasoning and refusals too",
        )
    return np.minimum(table, 1.0)


def _known(token: object) -> list[float]:
    """The probabilities that are known of one token: of the most probable ones, and its own if it is not one of them."""
    shown = token.get("top_logprobs") if isinstance(token, dict) else None
    if not isinstance(token, dict) or not isinstance(shown, list) or not 0 < len(shown) <= MOST + 1:
        raise AnswerError("the model server's answer has no log-probabilities for a token")
    known = [0.0 if _is_impossible(item) else _probability(item) for item in shown]
    for item in shown:
        _check_token(item)
        if item.get("top_logprobs"):
            raise AnswerError(_SHOWS_MORE)
    _check_token(token)
    own = _probability(token)
    known = known if own in known else [*known, own]
    if len(known) > MOST + 1:
        raise AnswerError(_SHOWS_MORE)
    return known


def _is_impossible(item: object) -> bool:
    """Whether a log-probability is null, as some servers write minus infinity, which JSON has not."""
    return isinstance(item, dict) and "logprob" in item and item["logprob"] is None


def _check_token(token: dict[str, Any]) -> None:
    """A token is its text, the bytes of this text, its log-probability, and its number in the vocabulary."""
    if not token.keys() <= _TOKEN or not isinstance(token.get("token"), str) or type(token.get("id", 0)) is not int:
        raise AnswerError(_SHOWS_MORE)
    _written(token)


def _probability(item: object) -> float:
    value = item.get("logprob") if isinstance(item, dict) else None
    if not isinstance(value, int | float) or isinstance(value, bool) or not value <= _ROUNDING:
        raise AnswerError("the model server's answer holds a log-probability that is not a number of 0 or less")
    return math.exp(max(min(value, 0.0), _LEAST))


def _written(token: dict[str, Any]) -> bytes:
    """The bytes of a token: as reported, or those of its text."""
    text: str = token["token"]
    reported = token.get("bytes")
    if not reported:
        return text.encode("utf-8", "replace")
    try:
        found = bytes(reported) if isinstance(reported, list) else None
    except (TypeError, ValueError):
        found = None
    if found is None or len(found) > 4 * len(text) + 4:
        raise AnswerError("the model server's answer has bytes of a token that are not its text")
    return found


def _token_bytes(token: dict[str, Any]) -> int:
    return len(_written(token))


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
        functions += [call.get("function"), call.get("custom")]
    return shown + sum(max(1, _call_bytes(one, note, service)) for one in functions if one is not None)


def _call_bytes(function: object, note: ChatNote, service: ServiceDescription) -> int:
    if not isinstance(function, dict):
        raise AnswerError("the model server's answer has a call of something that is not a function")
    check_answer_members(function, FUNCTION, service)
    name = function.get("name")
    parts = [_compact(function.get("arguments")), _compact(function.get("input"))]
    if name is not None and name not in note.names:
        parts.append(_text(name))
    return sum(len(part.encode("utf-8", "replace")) for part in parts)


def _compact(arguments: object) -> str:
    """Arguments without the white space and the escapes that servers add when they write them anew."""
    if arguments is None:
        return ""
    try:
        value = json.loads(arguments) if isinstance(arguments, str) else arguments
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

    Not reported: up to 2 tokens that end a completion; tokens of a stop that was found (llama.cpp); and, where a
    character is made of several tokens, all but its last (llama.cpp). A character has at most as many tokens as bytes.

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
    measured = 0
    for choice in choices:
        measured += _END_TOKENS + (note.stop if choice.get("finish_reason") == "stop" else 0)
        for token in token_logprobs(choice):
            measured += max(1, sum(byte >= _ASCII for byte in _written(token)))
    if counted > measured:
        raise AnswerError(
            "the model server counted more tokens than it has log-probabilities of",
            private=f"usage.completion_tokens is {counted}, and at most {measured} tokens can have been measured",
        )
