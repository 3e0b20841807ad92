"""OpenAI-style chat completions: the measures get the probabilities of each token.

The model server is always asked for its log-probabilities; a caller who did not ask for them does not get them.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from modeltoll.errors import AnswerError, RequestError
from modeltoll.gateway.protocols.openai_shape import OpenAIErrors, numbered
from modeltoll.gateway.protocols.protocol import JSON, ParsedRequest, Routes, ServiceDescription
from modeltoll.gateway.protocols.rows import check_row_limit, fingerprint
from modeltoll.gateway.protocols.strict_json import load_answer, load_object
from modeltoll.gateway.protocols.text_inputs import TextProtocol, check_model
from modeltoll.records import Evidence

if TYPE_CHECKING:
    from modeltoll.records import Answer, Floats

__all__ = ["OpenAIChat"]

_MOST = 20  # log-probabilities per token that the API gives at most
_ROUNDING = 1e-3
_PROMPT = "prompt_logprobs"  # vLLM: log-probabilities of the prompt


def _choices(document: dict[str, Any], service: ServiceDescription) -> int:
    wanted = document.get("n", 1)
    if type(wanted) is not int:
        raise RequestError("'n' is not a whole number")
    check_row_limit(wanted, service)
    return wanted


def _top_logprobs(document: dict[str, Any]) -> int | None:
    """How many log-probabilities per token the caller asks for beside the token's own; None: none at all."""
    wanted, most = document.get("logprobs", False), document.get("top_logprobs", 0)
    if wanted is None:
        wanted = False
    if most is None:
        most = 0
    if not isinstance(wanted, bool) or type(most) is not int or not 0 <= most <= _MOST:
        raise RequestError(f"'logprobs' is not true or false, or 'top_logprobs' is not 0 to {_MOST}")
    if most and not wanted:
        raise RequestError("'top_logprobs' needs 'logprobs': true")
    return most if wanted else None


def _token_logprobs(choice: dict[str, Any]) -> list[Any]:
    """The tokens of a completion, or of the refusal that stands in its place.

    Raises:
        AnswerError: there are none, or log-probabilities of something else beside them.
    """
    logprobs = choice.get("logprobs")
    lists = list(logprobs.values()) if isinstance(logprobs, dict) and logprobs.keys() <= {"content", "refusal"} else []
    found = [tokens for tokens in lists if tokens is not None]
    if not found or not all(isinstance(tokens, list) for tokens in found):
        raise AnswerError("the model server's answer has no log-probabilities of its tokens, or others beside them")
    return list(chain.from_iterable(found))


def _tokens(choice: dict[str, Any]) -> Floats:
    """The probabilities that are known of each token of a choice, (tokens, 20), 0 for those that are not."""
    tokens = _token_logprobs(choice)
    table = np.zeros((len(tokens), _MOST))
    for row, token in zip(table, tokens, strict=True):
        known = token.get("top_logprobs") if isinstance(token, dict) else None
        if not isinstance(known, list) or not 0 < len(known) <= _MOST:
            raise AnswerError("the model server's answer has no log-probabilities for a token")
        for place, item in enumerate(known):
            row[place] = _probability(item)
    if (table.sum(axis=1) > 1 + _ROUNDING).any():
        raise AnswerError("the log-probabilities of a token sum to more than 1")
    return np.minimum(table, 1.0)


def _probability(item: object) -> float:
    value = item.get("logprob") if isinstance(item, dict) else None
    if not isinstance(value, int | float) or isinstance(value, bool) or not value <= _ROUNDING:
        raise AnswerError("the model server's answer holds a log-probability that is not a number of 0 or less")
    return math.exp(min(value, 0.0))


def _stripped(asked: int | None, answer: Answer) -> Answer:
    """The answer with the log-probabilities that its caller asked for."""
    document = msgspec.json.decode(answer.body)
    for choice in document["choices"]:
        if asked is None:
            choice["logprobs"] = None
        else:
            for token in _token_logprobs(choice):
                token["top_logprobs"] = token["top_logprobs"][:asked]
    return replace(answer, body=msgspec.json.encode(document))


class OpenAIChat(OpenAIErrors, TextProtocol):
    """``/v1/chat/completions``, whole answers only. A row is one completion."""

    name = "openai-chat"
    routes = Routes(
        infer=("/v1/chat/completions",), pass_through=("/v1/models", "/health"), metadata=None, ready="/v1/models"
    )

    def read(self, body: bytes, service: ServiceDescription, content_type: str = JSON) -> ParsedRequest:
        """Read a request; the model server gets it with all log-probabilities requested."""
        del content_type
        document = load_object(body)
        check_model(document, service)
        if document.get("stream"):
            raise RequestError("streamed answers are not served here; leave 'stream' out")
        if document.get(_PROMPT) is not None:
            raise RequestError(f"{_PROMPT!r} is not served here")
        messages = document.get("messages")
        if not isinstance(messages, list) or not messages or not all(isinstance(item, dict) for item in messages):
            raise RequestError("'messages' is not a list of messages")
        choices, asked = _choices(document, service), _top_logprobs(document)
        written = json.dumps(messages, sort_keys=True).encode()
        prints = tuple(fingerprint(written, b"%d" % number) for number in range(choices))
        if asked == _MOST:
            return ParsedRequest(prints, None)
        try:
            forward = msgspec.json.encode(document | {"logprobs": True, "top_logprobs": _MOST})
        except (OverflowError, ValueError):
            raise RequestError("the request holds a number that is too large") from None
        return ParsedRequest(prints, None, forward=forward, strip=partial(_stripped, asked))

    def evidence(self, parsed: ParsedRequest, answer: Answer, service: ServiceDescription) -> Evidence:
        """The tokens of each completion."""
        del service
        choices = numbered(answer, "choices", len(parsed.fingerprints))
        if any(holder.get(_PROMPT) is not None for holder in (load_answer(answer), *choices)):
            raise AnswerError("the model server's answer has log-probabilities of the prompt, which are not measured")
        return Evidence(parsed.fingerprints, tokens=tuple(map(_tokens, choices)))
