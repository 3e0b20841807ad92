"""Commands whose options are the fields of a dataclass."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from inspect import Parameter, Signature
from typing import Any, TypeVar, get_type_hints

__all__ = ["takes_options"]

Options = TypeVar("Options")


def takes_options(function: Callable[[Options], None]) -> Callable[..., None]:
    """A command, as typer reads it, from a function of one dataclass.

    Each field of the dataclass is an argument or an option of the command: its annotation is ``Annotated`` with
    ``typer.Argument`` or ``typer.Option``, and one without a default is required.
    """
    (options_type,) = (hint for name, hint in get_type_hints(function).items() if name != "return")
    annotations = get_type_hints(options_type, include_extras=True)
    parameters = [
        Parameter(each.name, Parameter.KEYWORD_ONLY, default=_default(each), annotation=annotations[each.name])
        for each in fields(options_type)
    ]

    @functools.wraps(function)
    def command(**values: Any) -> None:
        function(options_type(**values))

    command.__signature__ = Signature(parameters)  # type: ignore[attr-defined]  # what typer reads
    command.__annotations__ = annotations
    return command


def _default(each: Field[Any]) -> Any:
    if each.default is not MISSING:
        return each.default
    return Parameter.empty if each.default_factory is MISSING else each.default_factory()
