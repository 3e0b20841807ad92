"""What the endpoints of OpenAI and vLLM share: errors, fingerprints of texts, and answers as numbered data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from modeltoll.errors import AnswerError, RequestError
from modeltoll.gateway.protocols.answer_members import ENVELOPE, ValueCheck, check_answer_members, is_anything
from modeltoll.gateway.protocols.protocol import Routes
from modeltoll.gateway.protocols.request_members import RequestMembers
from modeltoll.gateway.protocols.strict_json import any_error_text, load_answer
from modeltoll.gateway.protocols.text_inputs import fingerprints_of

if TYPE_CHECKING:
    from modeltoll.gateway.protocols.protocol import ServiceDescription
    from modeltoll.records import Answer

__all__ = [
    "LARGEST_BOUND",
    "OpenAIErrors",
    "bounded",
    "data_rows",
    "encoded_request",
    "numbered",
    "openai_routes",
    "text_fingerprints",
    "unbounded",
    "wanted_choices",
]

LARGEST_BOUND = 64 << 10  # bytes of an answer; beyond it padding to the bound would cost too much
_FRAME_BYTES = 2048  # of an answer without its rows
_ROW_BYTES = 512  # of a row without its numbers


def openai_routes(*infer: str) -> Routes:
    """The routes of endpoints at which a model is asked, as all of them have them."""
    return Routes(
        infer, pass_through=("/v1/models", "/health"), metadata=None, ready="/v1/models", query=("api-version",)
    )


def bounded(rows: int, row_bytes: int) -> int | None:
    """The length that an answer of so many rows has at most, in bytes; None where padding to it would cost too much."""
    bound = unbounded(rows, rows * row_bytes)
    return bound if bound <= LARGEST_BOUND else None


def unbounded(rows: int, data_bytes: int) -> int:
    """The length of an answer of so many rows, whose data take ``data_bytes`` together."""
    return _FRAME_BYTES + rows * _ROW_BYTES + data_bytes


def text_fingerprints(
    texts: list[Any], document: dict[str, Any], members: RequestMembers, service: ServiceDescription
) -> tuple[bytes, ...]:
    """One fingerprint per text of a request's member ``input``, over the text and all other members that are read.

    Raises:
        RequestError: a text or a member that is not served.
    """
    return fingerprints_of(texts, service, members.read_bytes(document | {"input": None}, service))


def data_rows(
    answer: Answer, rows: int, known: Mapping[str, ValueCheck], service: ServiceDescription
) -> list[dict[str, Any]]:
    """The objects of an answer's ``data``, in the order of their ``index``; neither they nor the answer hold anything else.

    Raises:
        AnswerError: they do, or there is not one object per row.
    """
    document = load_answer(answer)
    data = numbered(document, "data", rows)
    check_answer_members(document, {**ENVELOPE, "data": is_anything}, service)
    for item in data:
        check_answer_members(item, known, service)
    return data


class OpenAIErrors:
    """Errors as ``{"error": {"message": ..., "type": ..., "param": null, "code": ...}}``."""

    def error(self, message: str) -> bytes:
        """An error's body."""
        return msgspec.json.encode({"error": self._member(message, "invalid_request_error", None)})

    def error_member(self, message: str) -> object:
        """The object that the SDKs read."""
        return self._member(message, "toll", "toll")

    def error_text(self, answer: Answer) -> str:
        """The upstream's ``error.message``, or what servers write in its place, shortened."""
        return any_error_text(answer)

    @staticmethod
    def _member(message: str, kind: str, code: str | None) -> dict[str, str | None]:
        return {"message": message, "type": kind, "param": None, "code": code}


def numbered(document: object, member: str, rows: int) -> list[dict[str, Any]]:
    """The objects of a list in an answer's document, in the order of their ``index``.

    Raises:
        AnswerError: there is no such list, or not one object for each of the rows.
    """
    found = document.get(member) if isinstance(document, dict) else None
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise AnswerError(f"the model server's answer has no list of objects called {member!r}")
    if len(found) == rows and not any("index" in item for item in found):
        return found  # some servers write none, and keep the order
    if sorted(index for item in found if type(index := item.get("index")) is int) != list(range(rows)):
        raise AnswerError(f"the model server's answer does not have one of {member!r} per input")
    if len(found) != rows:
        raise AnswerError(f"the model server's answer has one of {member!r} without an index")
    return sorted(found, key=lambda item: item["index"])


def wanted_choices(document: dict[str, Any]) -> int:
    """The member ``n`` of a request: how many completions it asks for; 1 where it is absent or null.

    Raises:
        RequestError: it is not a whole number.
    """
    wanted = document.get("n")
    if wanted is None:
        return 1
    if type(wanted) is not int:
        raise RequestError("'n' is not a whole number")
    return wanted


def encoded_request(document: dict[str, Any]) -> bytes:
    """A request that is written anew.

    Raises:
        RequestError: it holds what cannot be written.
    """
    try:
        return msgspec.json.encode(document)
    except (OverflowError, ValueError, RecursionError):
        raise RequestError("the request holds a number that is too large, or is nested too deeply") from None
