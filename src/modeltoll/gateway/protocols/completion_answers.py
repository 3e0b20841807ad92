"""Answers of text completions: their log-probabilities in both shapes that servers write, and what they may hold."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from operator import gt
from typing import TYPE_CHECKING, Any

from modeltoll.errors import AnswerError
from modeltoll.gateway.protocols.answer_members import ValueCheck, check_answer_members, is_anything, is_count
from modeltoll.gateway.protocols.chat_answers import stop_bytes, token_logprobs
from modeltoll.gateway.protocols.chat_members import CHOICE, CUT, DOCUMENT
from modeltoll.gateway.protocols.token_tables import (
    check_counted,
    cut_alternatives,
    most_counted,
    token_table,
    with_end,
)

if TYPE_CHECKING:
    from modeltoll.gateway.protocols.protocol import ServiceDescription
    from modeltoll.records import Floats

__all__ = [
    "COMPLETION_CHOICE",
    "LISTS",
    "check_completion_count",
    "check_completion_members",
    "completion_tokens",
    "measured_text",
    "shown_logprobs",
]

LISTS = ("tokens", "token_logprobs", "top_logprobs", "text_offset")  # of OpenAI's log-probabilities: one item per token
COMPLETION_CHOICE: Mapping[str, ValueCheck] = {
    **{name: check for name, check in CHOICE.items() if name != "message"},
    "text": is_anything,
}
_NO_OFFSET = -1  # as SGLang writes it
_NOT_LISTS = "the model server's answer has log-probabilities that are not one per token"


def check_completion_members(
    document: dict[str, Any], choices: list[dict[str, Any]], service: ServiceDescription
) -> None:
    """Refuse an answer that holds something beside texts and log-probabilities of their tokens.

    Raises:
        AnswerError: it does.
    """
    check_answer_members(document, DOCUMENT, service)
    for choice in choices:
        check_answer_members(choice, COMPLETION_CHOICE, service)


def completion_tokens(choice: dict[str, Any]) -> list[Any]:
    """The tokens of a completion as chats have them, from OpenAI's lists or from those of a chat (llama.cpp).

    Raises:
        AnswerError: they are neither, or hold something else.
    """
    logprobs = choice.get("logprobs")
    if not isinstance(logprobs, dict) or "content" in logprobs:
        return token_logprobs(choice)
    if not logprobs.keys() <= set(LISTS):
        raise AnswerError("the model server's answer has log-probabilities of something else than its tokens")
    texts, own, shown, offsets = (logprobs.get(name) or [] for name in LISTS)
    if not all(isinstance(one, list) for one in (texts, own, shown, offsets)):
        raise AnswerError(_NOT_LISTS)
    if not len(texts) == len(own) == len(shown) or len(offsets) not in (0, len(texts)):
        raise AnswerError(_NOT_LISTS)
    _check_offsets(texts, offsets)
    return [_token(*parts) for parts in zip(texts, own, shown, strict=True)]


def _token(text: object, logprob: object, shown: object) -> dict[str, Any]:
    if not isinstance(shown, dict):
        raise AnswerError("the model server's answer has no log-probabilities for a token")
    known = [{"token": other, "logprob": value} for other, value in shown.items()]
    return {"token": text, "logprob": logprob, "top_logprobs": known or [{"token": text, "logprob": logprob}]}


def _check_offsets(texts: list[Any], offsets: list[Any]) -> None:
    """Places of tokens in the text: they do not go back, and are at most as far as the tokens before them are long."""
    if not all(is_count(offset) for offset in offsets) or not all(isinstance(text, str) for text in texts):
        raise AnswerError(_NOT_LISTS)
    if all(offset == _NO_OFFSET for offset in offsets):
        return
    longest = accumulate((len(text) + 1 for text in texts), initial=offsets[0])
    if offsets[0] < 0 or offsets != sorted(offsets) or any(map(gt, offsets, longest)):
        raise AnswerError("the model server's answer has places of tokens that are not those of its text")


def measured_text(choice: dict[str, Any], *, chosen: bool) -> Floats:
    """The probabilities that are known of each token of a completion, (tokens, 21); see ``token_table`` and ``with_end``.

    Raises:
        AnswerError: they are not probabilities, or do not cover the text.
    """
    text = choice.get("text")
    if not isinstance(text, str):
        raise AnswerError("the model server's answer has a completion without a text")
    tokens, shown = completion_tokens(choice), len(text.encode("utf-8", "replace"))
    table, covered = token_table(tokens)
    if shown + stop_bytes(choice) > covered:
        raise AnswerError(
            "the model server's answer shows more than the tokens that it has log-probabilities of",
            private="the server must report log-probabilities of completions: 'logprobs' was asked for",
        )
    return table if choice.get("finish_reason") in CUT else with_end(table, tokens, (text,), chosen=chosen)


def check_completion_count(document: dict[str, Any], choices: list[dict[str, Any]], stop: int) -> None:
    """Compare the number of tokens that the server counted with those that were measured; ``stop`` as ``ChatNote.stop``.

    Raises:
        AnswerError: more were made than were measured.
    """
    usage = document.get("usage")
    counted = usage.get("completion_tokens") if isinstance(usage, dict) else None
    if type(counted) is int:
        found = [stop if choice.get("finish_reason") == "stop" else 0 for choice in choices]
        most = [most_counted(completion_tokens(choice), one) for choice, one in zip(choices, found, strict=True)]
        check_counted(counted, sum(most))


def shown_logprobs(logprobs: object, asked: int | None) -> object:
    """Of the log-probabilities of a completion those that its caller asked for: each token's own and the ``asked`` largest.

    None: none at all. The lists are changed in place; what has another shape is left as it is.
    """
    if asked is None or not isinstance(logprobs, dict):
        return None if asked is None else logprobs
    cut_alternatives(logprobs.get("content"), asked)
    shown, own = logprobs.get("top_logprobs"), logprobs.get("tokens")
    if isinstance(shown, list) and isinstance(own, list) and len(own) == len(shown):
        logprobs["top_logprobs"] = [_largest(one, text, asked) for one, text in zip(shown, own, strict=True)]
    return logprobs


def _largest(shown: object, own: object, asked: int) -> object:
    if not isinstance(shown, dict) or not all(isinstance(value, int | float) for value in shown.values()):
        return shown
    largest = sorted(shown, key=lambda text: -shown[text])[:asked]
    return {text: value for text, value in shown.items() if text in largest or text == own}
