"""Strict JSON for all serving protocols, so that gateway and model server read the same document."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import msgspec

from modeltoll.errors import AnswerError, RequestError
from modeltoll.gateway.protocols.large_json import decode_large

if TYPE_CHECKING:
    from modeltoll.records import Answer

__all__ = [
    "BYTE_ORDER_MARK",
    "ERROR_TEXT_CHARACTERS",
    "any_error_text",
    "canonical",
    "check_text",
    "error_text_at",
    "load_answer",
    "load_json_answer",
    "load_object",
    "load_request",
]

ERROR_TEXT_CHARACTERS = 500  # of an upstream's error message
_ERROR_PLACES = (("error", "message"), ("error",), ("message",), ("detail",))
_VALIDATION_ERRORS = 3  # of a list of them
_DEPTH = 32  # of a value's nesting
_SMALLEST, _LARGEST = -(2**63), 2**64 - 1  # what INT64 and UINT64 hold
_TOO_LARGE = "the request holds a number that is too large"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise RequestError("the request repeats a member; gateway and model server might read it differently")
    return members


def _no_constant(token: str) -> float:
    raise RequestError(f"the request holds {token}, which is not JSON")


def _missing(constant: str) -> float:
    return math.nan if constant == "NaN" else _no_constant(constant)


def _float(digits: str) -> float:
    return float(digits)


def _int(digits: str) -> int:
    return int(digits)


# A decoder is written in C, and other threads wait until it is done, unless it calls functions of Python now and then: the
# second of each pair is for large bodies that ``decode_large`` does not read.
_without_nan, _with_nan = (
    (
        json.JSONDecoder(object_pairs_hook=_unique, parse_constant=constant),
        json.JSONDecoder(object_pairs_hook=_unique, parse_constant=constant, parse_float=_float, parse_int=_int),
    )
    for constant in (_no_constant, _missing)
)
BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # before JSON that some editors and shells have written
_LARGE_BYTES = 256 << 10  # some 30 ms of decoding
# How an escaped colon begins. A document with another escape that begins so is read by the slower decoder, too.
_ESCAPED_COLON = b"\\u003"
_PLAIN = frozenset((int, float, bool, type(None)))  # values that hold no colon


def _decode(body: bytes, decoders: tuple[json.JSONDecoder, json.JSONDecoder]) -> Any:
    """The document of a body, which may begin with a byte order mark; raises as the decoder does.

    msgspec reads most documents to the same values, several times as fast. Of two members with one name it keeps the last
    without an error. So its document is taken only where no member can have been lost.
    """
    text = body.removeprefix(BYTE_ORDER_MARK)
    large = len(text) > _LARGE_BYTES
    try:
        document = decode_large(text) if large else msgspec.json.decode(text)
    except (ValueError, RecursionError):  # msgspec.DecodeError is a ValueError; the decoder below says what is wrong
        pass
    else:
        if _has_unique_members(document, text):
            return document
    return decoders[large].decode(text.decode("utf-8"))


def _has_unique_members(document: Any, text: bytes) -> bool:
    """Whether no member of the JSON ``text`` was lost when it became ``document``; False where that is not certain.

    Each colon of the text follows the name of a member or stands in a string. A member that was lost took one with it.
    """
    if _ESCAPED_COLON in text:
        return False
    colons, waiting = 0, [document]
    while waiting:
        value = waiting.pop()
        kind = type(value)
        if kind is str:
            colons += value.count(":")
        elif kind is dict:
            colons += len(value)
            waiting += value
            waiting += value.values()
        elif kind is list and not _is_plain(value):
            waiting += value
    return colons == text.count(b":")


def _is_plain(items: list[Any]) -> bool:
    """Whether no item of a list holds a colon, which is so of numbers: they alone can be added up."""
    try:
        sum(items)
    except (TypeError, OverflowError):  # a null is plain, too; whole numbers may be too large for a sum with fractions
        return _PLAIN.issuperset(map(type, items))
    return True


def load_request(body: bytes, *, missing: bool = True) -> Any:
    """Strict JSON: UTF-8, nothing behind it, no member twice, no Infinity.

    NaN, which Python's clients write for a missing value, is the float of that name. A byte order mark before the JSON is
    left out. Numbers and texts are checked where they are read, by ``canonical`` or by their types: Python reads ``1e999`` as
    infinity and half a surrogate pair as a character.

    Raises:
        RequestError: it is not.
    """
    try:
        return _decode(body, _with_nan if missing else _without_nan)
    except (ValueError, RecursionError):
        raise RequestError("the request is not JSON") from None


def load_object(body: bytes, *, missing: bool = True) -> dict[str, Any]:
    """The same, for a request that is an object. ``missing``: False where no value may be missing, and NaN is refused.

    Raises:
        RequestError: it is not.
    """
    document = load_request(body, missing=missing)
    if not isinstance(document, dict):
        raise RequestError("the request is not an object")
    return document


def check_text(text: str) -> str:
    """A text of a request.

    Raises:
        RequestError: it holds half a surrogate pair, which model servers read in different ways.
    """
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise RequestError("the request holds a text that is not Unicode") from None
    return text


def canonical(value: object) -> bytes:
    """The canonical bytes of a JSON value: equal for equal values, integers exact, 1.0 written as 1, names sorted.

    NaN is a value of its own, which equals itself.

    Raises:
        RequestError: nested too deeply, a text that is not Unicode, or a number that is not finite or that 64 bits do
            not hold.
    """
    return json.dumps(_normal(value, 0), sort_keys=True, separators=(",", ":")).encode()


def _normal(value: Any, depth: int) -> Any:
    if depth > _DEPTH:
        raise RequestError("the request is nested too deeply")
    if isinstance(value, str):
        return check_text(value)
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        if not _SMALLEST <= value <= _LARGEST:
            raise RequestError(_TOO_LARGE)
        return value
    if isinstance(value, float):
        if math.isinf(value):
            raise RequestError(_TOO_LARGE)
        return int(value) if value.is_integer() and _SMALLEST <= value <= _LARGEST else value
    if isinstance(value, dict):
        return {check_text(name): _normal(item, depth + 1) for name, item in value.items()}
    return [_normal(item, depth + 1) for item in value]


def load_json_answer(body: bytes) -> Any:
    """A model server's JSON as a document, as strictly as requests are read.

    Raises:
        AnswerError: it is not JSON, repeats a member, or holds NaN or Infinity.
    """
    try:
        return _decode(body, _without_nan)
    except (ValueError, RecursionError, RequestError) as error:
        raise AnswerError("the model server's answer is not JSON", private=str(error)) from None


def load_answer(answer: Answer) -> Any:
    """The body of a model server's answer; raises as ``load_json_answer``."""
    return load_json_answer(answer.body)


def error_text_at(answer: Answer, *steps: str) -> str:
    """The text at a path of members in an upstream's error, shortened; empty where there is none."""
    try:
        found = msgspec.json.decode(answer.body)
    except (ValueError, RecursionError):  # msgspec.DecodeError is a ValueError
        return ""
    for step in steps:
        found = found.get(step) if isinstance(found, dict) else None
    if isinstance(found, list):
        found = "; ".join(filter(None, map(_validation_text, found[:_VALIDATION_ERRORS])))
    return found[:ERROR_TEXT_CHARACTERS] if isinstance(found, str) else ""


def any_error_text(answer: Answer) -> str:
    """The text of an upstream's error in the first of the usual places that has one."""
    return next(filter(None, (error_text_at(answer, *steps) for steps in _ERROR_PLACES)), "")


def _validation_text(item: object) -> str:
    """One error of a list as FastAPI writes it: where it is, and what it is, without the input that is wrong."""
    if not isinstance(item, dict) or not isinstance(item.get("msg"), str):
        return ""
    place = item.get("loc")
    return f"{'.'.join(map(str, place))}: {item['msg']}" if isinstance(place, list) else item["msg"]
