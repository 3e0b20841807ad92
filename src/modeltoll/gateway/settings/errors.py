"""What is wrong with settings, in one sentence per fault."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modeltoll.gateway.settings.yaml_file import UNKNOWN

if TYPE_CHECKING:
    from pydantic import ValidationError

__all__ = ["errors_of"]


def errors_of(error: ValidationError, whole: str = "settings") -> list[str]:
    """Every fault under its setting's dotted name; ``whole`` is the name of all of them together."""
    faults = []
    for fault in error.errors(include_url=False, include_input=False):
        where = ".".join(str(step) for step in fault["loc"]) or whole
        faults.append(f"{where}: {_plain(fault['type'], fault['msg'])}")
    return faults


def _plain(kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        return UNKNOWN
    if kind == "missing":
        return "is missing; add it"
    return message.removeprefix("Value error, ")
