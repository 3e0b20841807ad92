"""Error messages of settings: one sentence per fault."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modeltoll.gateway.settings.yaml_file import UNKNOWN
from modeltoll.gateway.settings.yaml_scalars import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pydantic import ValidationError

__all__ = ["errors_of"]

_REPLACED = {"callers.entry": "callers.credit", "callers.admission": "callers.credit"}
_PLAIN = {
    "missing": "is missing; add it",
    "model_type": "must hold settings below it: indented lines of NAME: VALUE",
    "int_parsing": "must be a whole number, such as 1000",
    "tuple_type": "must be a list, such as [a, b]",
}


def _unknown(place: Sequence[int | str]) -> str:
    del place
    return ""


def errors_of(
    error: ValidationError, whole: str = "settings", written: Callable[[Sequence[int | str]], str] = _unknown
) -> list[str]:
    """Every fault under its setting's dotted name; ``whole`` is the name of all of them together.

    ``written``: how values that YAML does not read as texts are written in the file.
    """
    faults = []
    found = error.errors(include_url=False, include_input=False)
    for fault in found:
        if fault["type"] == "too_short" and any(_is_within(other["loc"], fault["loc"]) for other in found):
            continue  # a list is counted without its faulty items
        where = ".".join(str(step) for step in fault["loc"]) or whole
        text = written(fault["loc"])
        if fault["type"] == "string_type" and text:
            message = f"must be a text, and YAML does not read {shown(text)} as one; put it in quotes"
        else:
            message = _plain(where, fault["type"], fault["msg"])
        faults.append(f"{where}: {message}")
    return faults


def _is_within(inner: tuple[int | str, ...], outer: tuple[int | str, ...]) -> bool:
    return len(inner) > len(outer) and inner[: len(outer)] == outer


def _plain(where: str, kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        return f"is replaced by {_REPLACED[where]}" if where in _REPLACED else UNKNOWN
    if kind == "string_pattern_mismatch" and where.endswith("sha256"):
        return "is not a SHA-256 in hexadecimal; make one with: printf %s KEY | sha256sum"
    if kind == "model_type" and "None" in message:
        return message
    return _PLAIN.get(kind) or message.removeprefix("Value error, ")
