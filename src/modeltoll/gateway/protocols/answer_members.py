"""Members of a JSON answer that may go out beside what is measured, each with the values that it may have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from modeltoll.errors import AnswerError
from modeltoll.gateway.protocols.request_members import has_value

if TYPE_CHECKING:
    from modeltoll.gateway.protocols.protocol import ServiceDescription

__all__ = ["ENVELOPE", "ValueCheck", "check_answer_members", "is_anything", "is_count", "is_short_text", "is_usage"]

ValueCheck = Callable[[object], bool]

_TEXT_CHARACTERS = 256  # of a name, an identifier or a reason
_COUNTS = 16  # members of an object of counts, at most
_NAME_CHARACTERS = 64  # of a member's name in an error


def is_anything(value: object) -> bool:
    """Any value: for members that are checked elsewhere."""
    del value
    return True


def is_short_text(value: object) -> bool:
    """A text of at most 256 characters: an identifier, a reason, a version."""
    return isinstance(value, str) and len(value) <= _TEXT_CHARACTERS


def is_count(value: object) -> bool:
    """A number that counts something: tokens, seconds, a position."""
    return type(value) is int or (isinstance(value, float) and value.is_integer())


def is_usage(value: object) -> bool:
    """Numbers of tokens, and objects of such numbers, under names that say so."""
    if not isinstance(value, dict) or len(value) > _COUNTS:
        return False
    return all(_is_token_count(name, item) for name, item in value.items())


def _is_token_count(name: str, item: object) -> bool:
    if not has_value(item):
        return True
    if name.endswith("_tokens_details"):
        return is_usage(item) and not any(isinstance(deeper, dict) for deeper in item.values())  # type: ignore[attr-defined]
    if name.endswith("_tokens_per_turn"):  # vLLM's Responses: one count for each time that the model was asked
        return isinstance(item, list) and len(item) <= _COUNTS and all(type(one) is int and one >= 0 for one in item)
    return name.endswith("_tokens") and type(item) is int and item >= 0


# What every endpoint of OpenAI and vLLM writes around its data.
ENVELOPE: Mapping[str, ValueCheck] = {
    "id": is_short_text,
    "object": is_short_text,
    "created": is_count,
    "model": is_short_text,
    "usage": is_usage,
}


def check_answer_members(found: dict[str, Any], known: Mapping[str, ValueCheck], service: ServiceDescription) -> None:
    """Refuse members that nobody measures.

    A member may go out if it has no value, if it is known and its value passes its check, or if it is one of
    ``service.unmeasured``.

    Raises:
        AnswerError: there is another.
    """
    for name, value in found.items():
        check = known.get(name)
        if not has_value(value) or name in service.unmeasured or (check is not None and check(value)):
            continue
        raise AnswerError(
            f"the model server's answer has a value of {name[:_NAME_CHARACTERS]!r} that is not measured",
            private="let the model server leave it out, or list it in output.unmeasured",
        )
