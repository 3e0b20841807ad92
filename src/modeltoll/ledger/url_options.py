"""Parse the query options of a ledger's URL."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from modeltoll.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from urllib.parse import SplitResult

__all__ = ["DAY", "positive_number", "read_options", "whole_number"]

DAY = 86_400.0  # seconds


def read_options(url: SplitResult) -> dict[str, str]:
    """The options by name; of repeated ones the last."""
    return dict(parse_qsl(url.query, keep_blank_values=True))


def positive_number(options: Mapping[str, str], name: str, default: float, *, unit: float = 1.0) -> float:
    """The option times ``unit``, above 0 and finite; ``default``, in the base unit, if it is missing.

    Raises:
        SettingsError: the option is not such a number.
    """
    if name not in options:
        return default
    try:
        value = float(options[name]) * unit
    except ValueError:
        value = math.nan
    if not 0.0 < value < math.inf:
        raise SettingsError([f"ledger: {name} must be a number above 0, not {options[name]!r}"])
    return value


def whole_number(options: Mapping[str, str], name: str, default: int) -> int:
    """The option as a whole number of 1 or more; ``default`` if it is missing.

    Raises:
        SettingsError: the option is not such a number.
    """
    text = options.get(name, str(default))
    if not (text.isascii() and text.isdecimal() and int(text) >= 1):
        raise SettingsError([f"ledger: {name} must be a whole number of 1 or more, not {text!r}"])
    return int(text)
