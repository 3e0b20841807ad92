"""The headers of the wire, the words in them, and how they are read and written. Nothing that is read here can raise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from modeltoll.names import (
    ARGON2ID,
    HASHCASH,
    HASHCASH_SHA1,
    HASHCASHES,
    MODES,
    PUZZLES,
    REDEEM,
    SEALED,
    SHA256,
    TIMELOCK,
)

__all__ = [
    "ACCEPT_HEADER",
    "ARGON2ID",
    "AUTHENTICATE_HEADER",
    "BINARY_HEADER",
    "HASHCASH",
    "HASHCASHES",
    "HASHCASH_SHA1",
    "MODES",
    "PUZZLES",
    "RECEIPT_HEADER",
    "REDEEM",
    "SEALED",
    "SHA256",
    "TIMELOCK",
    "Accept",
    "fold_type",
    "format_accept",
    "parse_accept",
    "receipt",
    "type_headers",
]

ACCEPT_HEADER = "Toll-Accept"
RECEIPT_HEADER = "Toll-Receipt"
AUTHENTICATE_HEADER = "WWW-Authenticate"
BINARY_HEADER = "Inference-Header-Content-Length"  # Open Inference Protocol, binary tensor data extension

_MIB = 1024
_BINARY_PARAMETER = f"; {BINARY_HEADER.lower()}="
_BINARY_DIGITS = 10


@dataclass(frozen=True, slots=True)
class Accept:
    """What a client says that it can do. It only ever chooses among what the route allows."""

    puzzles: tuple[str, ...] = (ARGON2ID, SHA256)
    mode: str = SEALED
    memory_kib: int = 64 * _MIB


def format_accept(accept: Accept) -> str:
    """``argon2id, sha256; mode=sealed; memory=64MiB``."""
    return f"{', '.join(accept.puzzles)}; mode={accept.mode}; memory={accept.memory_kib // _MIB}MiB"


@lru_cache(maxsize=256)  # a client says the same each time
def parse_accept(value: str, known: tuple[str, ...] = PUZZLES) -> Accept:
    """Read a ``Toll-Accept`` header. What is not understood is left at its default; nothing here can raise.

    ``known`` are the names of puzzles that are understood.
    """
    names, *options = value[:256].split(";")
    puzzles = tuple(name for name in (part.strip().lower() for part in names.split(",")) if name in known)
    default = Accept()
    mode, memory = default.mode, default.memory_kib
    for option in options:
        key, _, given = option.strip().lower().partition("=")
        if key == "mode" and given in MODES:
            mode = given
        digits = given.removesuffix("mib")
        if key == "memory" and digits.isascii() and digits.isdigit() and len(digits) < 7:
            memory = int(digits) * _MIB
    return Accept(puzzles or default.puzzles, mode, memory)


def receipt(rows: int, seconds: float, mode: str) -> str:
    """The value of ``Toll-Receipt``: rows, expected reference seconds, and how they were settled."""
    work = seconds if math.isfinite(seconds) else 0.0
    return f"rows={rows}; work={work:.4g}; mode={mode}"


def fold_type(content_type: str, length: str | None) -> str:
    """A content type that also tells the value of ``BINARY_HEADER``, as a parameter: a seal has room for a type alone.

    A length that is None, or no number of at most 10 digits, is left out.
    """
    if length is None or not (length.isascii() and length.isdecimal() and len(length) <= _BINARY_DIGITS):
        return content_type
    return content_type.partition(_BINARY_PARAMETER)[0] + _BINARY_PARAMETER + length


def type_headers(content_type: str) -> dict[str, str]:
    """The headers that a content type of ``fold_type`` stands for."""
    plain, parameter, length = content_type.partition(_BINARY_PARAMETER)
    if not parameter or fold_type(plain, length) != content_type:
        return {"Content-Type": content_type}
    return {"Content-Type": plain, BINARY_HEADER: length}
