"""Which headers of the model server's answer are passed on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["passed_headers"]

_OF_REFUSALS = ("location", "retry-after", "retry-after-ms", "x-should-retry", "www-authenticate")
_REFUSAL = 300  # the least status of one
_CHARACTERS = 256


def passed_headers(
    status: int, headers: Iterable[tuple[str, str]], allowed: tuple[str, ...]
) -> tuple[tuple[str, str], ...]:
    """The headers of an answer that are ``allowed`` (in small letters), and of a refusal or redirect those that say what to do.

    Of a name that comes twice the first one counts. What is longer than 256 characters, or not printable ASCII, is left out.
    """
    names = (*allowed, *_OF_REFUSALS) if status >= _REFUSAL else allowed
    if not names:
        return ()
    found: dict[str, str] = {}
    for name, value in headers:
        lower, text = name.lower(), value.strip()
        if lower in names and text.isascii() and text.isprintable() and len(text) <= _CHARACTERS:
            found.setdefault(lower, text)
    return tuple(found.items())
