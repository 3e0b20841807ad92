"""What the endpoints of OpenAI and vLLM share: errors, and answers as numbered data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from modeltoll.errors import AnswerError
from modeltoll.gateway.protocols.strict_json import error_text_at, load_answer

if TYPE_CHECKING:
    from modeltoll.records import Answer

__all__ = ["OpenAIErrors", "numbered"]


class OpenAIErrors:
    """Errors as ``{"error": {"message": ..., "type": ..., "param": null, "code": ...}}``."""

    def error(self, message: str) -> bytes:
        """An error's body."""
        return msgspec.json.encode({"error": self._member(message, "invalid_request_error", None)})

    def error_member(self, message: str) -> object:
        """The object that the SDKs read."""
        return self._member(message, "toll", "toll")

    def error_text(self, answer: Answer) -> str:
        """The upstream's ``error.message``, or the plain ``message`` of older vLLM servers, shortened."""
        return error_text_at(answer, "error", "message") or error_text_at(answer, "message")

    @staticmethod
    def _member(message: str, kind: str, code: str | None) -> dict[str, str | None]:
        return {"message": message, "type": kind, "param": None, "code": code}


def numbered(answer: Answer, member: str, rows: int) -> list[dict[str, Any]]:
    """The objects of an answer's list, in the order of their ``index``.

    Raises:
        AnswerError: there is no such list, or not one object for each of the rows.
    """
    document = load_answer(answer)
    found = document.get(member) if isinstance(document, dict) else None
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise AnswerError(f"the model server's answer has no list of objects called {member!r}")
    if sorted(index for item in found if type(index := item.get("index")) is int) != list(range(rows)):
        raise AnswerError(f"the model server's answer does not have one of {member!r} per input")
    if len(found) != rows:
        raise AnswerError(f"the model server's answer has one of {member!r} without an index")
    return sorted(found, key=lambda item: item["index"])
