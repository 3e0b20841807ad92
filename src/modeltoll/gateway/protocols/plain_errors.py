"""Errors as most serving protocols write them: ``{"error": message}``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from modeltoll.gateway.protocols.strict_json import any_error_text

if TYPE_CHECKING:
    from modeltoll.records import Answer

__all__ = ["PlainErrors"]


class PlainErrors:
    """The three members of a serving protocol that deal with errors."""

    def error(self, message: str) -> bytes:
        """``{"error": message}``."""
        return msgspec.json.encode({"error": message})

    def error_member(self, message: str) -> object:
        """The protocol's ``error`` is a string."""
        return message

    def error_text(self, answer: Answer) -> str:
        """The upstream's ``error`` string, or what servers write in its place, shortened."""
        return any_error_text(answer)
