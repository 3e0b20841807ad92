"""The HTTP headers of tolls: their names, the values in them, and how they are formatted and parsed.

Parsing never raises; what is not understood keeps its default.
"""

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
    "SETTLE_HEADER",
    "SHA256",
    "TIMELOCK",
    "Accept",
    "content_headers",
    "format_accept",
    "format_receipt",
    "parse_accept",
    "with_binary_length",
]

ACCEPT_HEADER = "Toll-Accept"
RECEIPT_HEADER = "Toll-Receipt"
SETTLE_HEADER = "Toll-Settle"
AUTHENTICATE_HEADER = "WWW-Authenticate"
BINARY_HEADER = "Inference-Header-Content-Length"  # Open Inference Protocol, binary tensor data extension

_MIB = 1024
_BINARY_PARAMETER = f"; {BINARY_HEADER.lower()}="
_BINARY_DIGITS = 10


@dataclass(frozen=True, slots=True)
class Accept:
    """What a client supports: puzzles, mode, and memory in KiB. The gateway chooses among what the route allows.

    ``receipts``: the client returns the receipts of sealed tolls. Without it, tolls are redeemed.
    """

    puzzles: tuple[str, ...] = (ARGON2ID, SHA256)
    mode: str = SEALED
    memory_kib: int = 64 * _MIB
    receipts: bool = False


def format_accept(accept: Accept) -> str:
    """The value of ``Toll-Accept``, for example ``argon2id, sha256; mode=sealed; memory=64MiB``."""
    return f"{', '.join(accept.puzzles)}; mode={accept.mode}; memory={accept.memory_kib // _MIB}MiB"


@lru_cache(maxsize=256)  # a client repeats its header with every request
def parse_accept(value: str, known: tuple[str, ...] = PUZZLES) -> Accept:
    """Parse a ``Toll-Accept`` header, of which the first 256 characters count. Never raises.

    Names that are not ``known`` puzzles are left out.
    """
    names, *options = value[:256].split(";")
    puzzles = tuple(name for name in (part.strip().lower() for part in names.split(",")) if name in known)
    default = Accept()
    mode, memory = default.mode, default.memory_kib
    for option in options:
        key, _, setting = option.strip().lower().partition("=")
        if key == "mode" and setting in MODES:
            mode = setting
        digits = setting.removesuffix("mib")
        if key == "memory" and digits.isascii() and digits.isdigit() and len(digits) < 7:
            memory = int(digits) * _MIB
    return Accept(puzzles or default.puzzles, mode, memory)


def format_receipt(rows: int, seconds: float, mode: str) -> str:
    """The value of ``Toll-Receipt``: rows, work in expected reference seconds, and the mode of payment."""
    work = seconds if math.isfinite(seconds) else 0.0
    return f"rows={rows}; work={work:.4g}; mode={mode}"


def with_binary_length(content_type: str, length: str | None) -> str:
    """The content type with the value of ``BINARY_HEADER`` as a parameter, because a seal stores a content type only.

    ``length`` is dropped if it is None or not a decimal number of at most 10 digits.
    """
    if length is None or not (length.isascii() and length.isdecimal() and len(length) <= _BINARY_DIGITS):
        return content_type
    return content_type.partition(_BINARY_PARAMETER)[0] + _BINARY_PARAMETER + length


def content_headers(content_type: str) -> dict[str, str]:
    """The headers that ``with_binary_length`` put into a content type; the inverse of it."""
    plain, parameter, length = content_type.partition(_BINARY_PARAMETER)
    if not parameter or with_binary_length(plain, length) != content_type:
        return {"Content-Type": content_type}
    return {"Content-Type": plain, BINARY_HEADER: length}
