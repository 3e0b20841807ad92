"""Reads a large JSON document by msgspec in pieces, so that other threads wait for milliseconds at most, not until its end.

A decoder is written in C and does not release the interpreter. A list of numbers, or of lists of numbers, is therefore cut
between its items, and each piece is read by itself; objects and lists of few items are read member by member. The result
is that of reading the document at once.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

import msgspec

__all__ = ["decode_large"]

_PIECE_BYTES = 128 * 1024  # less than a millisecond of decoding
_PAUSE_SECONDS = 1e-4  # after a piece: a thread that waits for the interpreter needs about as long to wake up
_DEPTH = 8  # of objects and lists that are read member by member; each takes a pass over the text
_MOST_MARKS = (
    4096  # quotes or braces in a list of texts or objects: many, each by itself, take more memory than all at once
)
_MOST_BRACKETS = 1 << 16  # in an item of a list, beyond a piece's length

_WHITE_SPACE = b" \t\n\r"  # of JSON

_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_items = msgspec.json.Decoder(
    list[dict[str, msgspec.Raw] | list[str] | str]
).decode  # no numbers: there may be millions
_whole = msgspec.json.Decoder().decode


def decode_large(text: bytes) -> Any:
    """What ``msgspec.json.decode`` returns, in pieces and with pauses; for a thread other than the event loop's.

    Raises:
        ValueError: it is not JSON, or of a form that is not cut into pieces.
    """
    return _decoded(text, _DEPTH)


def _decoded(text: bytes, depth: int) -> Any:
    if len(text) <= _PIECE_BYTES:
        return _whole(text)
    if depth <= 0:
        raise ValueError("the document is nested too deeply to be cut")
    text = text.strip(_WHITE_SPACE)
    if text.startswith(b"{"):
        return _object(_members(text), depth)
    if not text.startswith(b"["):
        return _whole(text)  # a string, which is copied
    if b'"' not in text and b"{" not in text:
        return _list_of_numbers(text, depth)
    if max(text.count(b'"'), text.count(b"{")) > _MOST_MARKS:
        raise ValueError("the list has too many texts or members to be cut")
    return [_object(item, depth - 1) if isinstance(item, dict) else item for item in _items(text)]


def _object(members: dict[str, msgspec.Raw], depth: int) -> dict[str, Any]:
    return {name: _decoded(bytes(member), depth - 1) for name, member in members.items()}


def _list_of_numbers(text: bytes, depth: int) -> list[Any]:
    """A list of numbers, or of lists of numbers to any depth: its only marks are commas and brackets."""
    if not text.endswith(b"]"):
        raise ValueError("the list has no end")
    begin, end, nested = 1, len(text) - 1, text.find(b"[", 1) >= 0
    found: list[Any] = []
    while begin <= end:
        comma = _comma_of_nested(text, begin, end) if nested else text.find(b",", begin + _PIECE_BYTES, end)
        if comma < 0:
            comma = end
            if nested and begin == 1:
                with suppress(ValueError):
                    return [_decoded(text[1:end], depth - 1)]  # its only item
        piece = _whole(b"[%b]" % text[begin:comma])
        if not piece:
            raise ValueError("an item of the list is missing")
        found += piece
        begin = comma + 1
        time.sleep(_PAUSE_SECONDS)
    return found


def _comma_of_nested(text: bytes, begin: int, end: int) -> int:
    """The place of a comma between two items of a list, from a piece's length on; -1 where there is none."""
    opened, at, bracket = 0, begin, begin + _PIECE_BYTES
    for _ in range(_MOST_BRACKETS):
        bracket = text.find(b"]", bracket, end) + 1
        if not bracket:
            return -1
        opened += text.count(b"[", at, bracket) - text.count(b"]", at, bracket)
        at = bracket
        if opened <= 0:
            return text.find(b",", bracket, end)
    raise ValueError("the list is nested too deeply to be cut")
