"""Tables of the probabilities of tokens, from log-probabilities as OpenAI's chats have them.

A token is an object of ``token`` (its text), ``bytes``, ``logprob``, ``top_logprobs`` and perhaps ``id``. Protocols that
write log-probabilities in another shape convert them first.
"""

from __future__ import annotations

import math
import re
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from modeltoll.errors import AnswerError
from modeltoll.gateway.protocols.quick_tokens import LEAST, ROUNDING, quick_probabilities

if TYPE_CHECKING:
    from collections.abc import Iterable

    from modeltoll.records import Floats

__all__ = ["MOST", "check_counted", "cut_alternatives", "most_counted", "token_table", "with_end"]

MOST = 20  # log-probabilities per token that the API gives at most
_END_TOKENS = 2  # of a completion: tokens that end it are counted by some servers and not reported
_UNKNOWN = [0.0] * (MOST + 1)
_ASCII = 0x80
_ONE_BIT = np.array([[0.5, 0.5, *[0.0] * (MOST - 1)]])  # of an end that came or did not come
_SHOWS_MORE = "the model server's answer shows more of a token than its log-probabilities"
_TOKEN = frozenset(("token", "logprob", "bytes", "top_logprobs", "id"))
_BYTES_TEXT = re.compile(r"bytes:((?:\\x[0-9a-fA-F]{2})+)")  # a token that is no text, as OpenAI's completions write it


def token_table(tokens: list[Any]) -> tuple[Floats, int]:
    """The probabilities that are known of each token, (tokens, 21), 0 for those that are not; and the bytes of text covered.

    One column more than the API gives at most: the token's own, where it is not among the most probable ones. One byte more
    per token is covered than it has: decoded one by one, tokens of some tokenizers lose the space before them.

    Raises:
        AnswerError: they are not probabilities, or show more than that.
    """
    rows = quick_probabilities(tokens, MOST + 1) or [_known(token) for token in tokens]
    padded = chain.from_iterable([known + _UNKNOWN[len(known) :] for known in rows])
    table = np.fromiter(padded, np.float64, len(rows) * len(_UNKNOWN)).reshape(len(rows), len(_UNKNOWN))
    covered = sum([len(_written(token)) + 1 for token in tokens])
    if not (table.sum(axis=1) <= 1 + ROUNDING).all():  # nor is a NaN a probability
        raise AnswerError("the log-probabilities of a token sum to more than 1")
    return np.minimum(table, 1.0), covered


def with_end(table: Floats, tokens: list[Any], shown: Iterable[str], *, chosen: bool) -> Floats:
    """The table of a completion that ended by itself, with one more token for its end where the end may tell something.

    A server that leaves out the stop that ended a completion shows all the same that the stop came there. That is one bit at
    most, and it is counted in full. It is counted where the caller has ``chosen`` what ends a completion, and where a
    completion has no token at all. It is not counted where the last token is no part of what is shown: that token is the end.

    Args:
        table, tokens: as in ``token_table``.
        shown: the texts that the completion shows.
        chosen: see ``chooses_end``.
    """
    if tokens and (not chosen or not _is_shown(_written(tokens[-1]), shown)):
        return table
    return np.vstack((table, _ONE_BIT))


def _is_shown(token: bytes, shown: Iterable[str]) -> bool:
    """Whether one of these texts ends with a token, but for white space, which servers cut off."""
    return bool(token) and any(
        text.encode("utf-8", "replace").rstrip().endswith(token.strip()) for text in shown if text
    )


def cut_alternatives(tokens: object, asked: int | None) -> None:
    """Leave of the ``top_logprobs`` of each token the first ``asked`` ones, in place; what has another shape stays as it is."""
    for token in tokens if isinstance(tokens, list) else ():
        if isinstance(token, dict) and isinstance(token.get("top_logprobs"), list):
            token["top_logprobs"] = token["top_logprobs"][:asked]


def most_counted(tokens: list[Any], stop: int = 0) -> int:
    """The most tokens that a server can have counted where it reports these.

    Not reported: up to 2 tokens that end a completion; tokens of a stop of ``stop`` bytes that was found (llama.cpp); and,
    where a character is made of several tokens, all but its last (llama.cpp). A character has at most as many tokens as bytes.
    """
    return _END_TOKENS + stop + sum(map(_most_made, tokens))


def _most_made(token: dict[str, Any]) -> int:
    """The most tokens of which one that is reported can be the last."""
    written = _written(token)
    return 1 if written.isascii() else sum(byte >= _ASCII for byte in written)


def check_counted(counted: int, most: int) -> None:
    """Compare a server's count of tokens with the most that can have been measured.

    Raises:
        AnswerError: it made more.
    """
    if counted > most:
        raise AnswerError(
            "the model server counted more tokens than it has log-probabilities of",
            private=f"its usage counts {counted} tokens, and at most {most} can have been measured",
        )


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
    if not isinstance(value, int | float) or isinstance(value, bool) or not value <= ROUNDING:
        raise AnswerError("the model server's answer holds a log-probability that is not a number of 0 or less")
    return math.exp(max(min(value, 0.0), LEAST))


def _written(token: dict[str, Any]) -> bytes:
    """The bytes of a token: as reported, or those of its text."""
    text: str = token["token"]
    reported = token.get("bytes")
    if not reported:
        raw = _BYTES_TEXT.fullmatch(text)
        return bytes.fromhex(raw[1].replace("\\x", "")) if raw else text.encode("utf-8", "replace")
    try:
        found = bytes(reported) if isinstance(reported, list) else None
    except (TypeError, ValueError):
        found = None
    if found is None or len(found) > 4 * len(text) + 4:
        raise AnswerError("the model server's answer has bytes of a token that are not its text")
    return found
