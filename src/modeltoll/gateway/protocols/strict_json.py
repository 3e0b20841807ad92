"""Strict JSON for all serving protocols, so that gateway and model server read the same document."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec

from modeltoll.errors import AnswerError, RequestError

if TYPE_CHECKING:
    from modeltoll.records import Answer

__all__ = ["ERROR_TEXT_CHARACTERS", "error_text_at", "load_answer", "load_object", "load_request"]

ERROR_TEXT_CHARACTERS = 500  # of an upstream's error message


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise RequestError("the request repeats a member; gateway and model server might read it differently")
    return members


def _no_constant(token: str) -> float:
    raise RequestError(f"the request holds {token}, which is not JSON")


def _float(digits: str) -> float:
    return float(digits)


def _int(digits: str) -> int:
    return int(digits)


_requests = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)
# The decoder is written in C, and other threads wait until it is done, unless it calls functions of Python now and then.
_large_requests = json.JSONDecoder(
    object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_float, parse_int=_int
)
_LARGE_BYTES = 256 << 10  # some 30 ms of decoding


def load_request(body: bytes) -> Any:
    """Strict JSON: UTF-8, no member twice, no NaN or Infinity.

    Raises:
        RequestError: it is not.
    """
    try:
        decoder = _large_requests if len(body) > _LARGE_BYTES else _requests
        return decoder.decode(body.decode("utf-8"))
    except (ValueError, RecursionError):
        raise RequestError("the request is not JSON") from None


def load_object(body: bytes) -> dict[str, Any]:
    """The same, for a request that is an object.

    Raises:
        RequestError: it is not.
    """
    document = load_request(body)
    if not isinstance(document, dict):
        raise RequestError("the request is not an object")
    return document


def load_answer(answer: Answer) -> Any:
    """A model server's answer as a JSON document. NaN and Infinity are refused.

    Raises:
        AnswerError: it is not JSON.
    """
    try:
        return msgspec.json.decode(answer.body)
    except (ValueError, RecursionError) as error:  # msgspec.DecodeError is a ValueError
        raise AnswerError("the model server's answer is not JSON", private=str(error)) from None


def error_text_at(answer: Answer, *steps: str) -> str:
    """The text at a path of members in an upstream's error, shortened; empty where there is none."""
    try:
        found = msgspec.json.decode(answer.body)
    except (ValueError, RecursionError):  # msgspec.DecodeError is a ValueError
        return ""
    for step in steps:
        found = found.get(step) if isinstance(found, dict) else None
    return found[:ERROR_TEXT_CHARACTERS] if isinstance(found, str) else ""
