"""The HTTP headers of tolls: their names, the values in them, and how they are formatted and parsed.

Parsing never raises; what is not understood keeps its default.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

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
from modeltoll.record_init import quick_init
from modeltoll.wire_json import decode_base64url, encode_base64url
from modeltoll.wire_messages import MAX_RECEIPT_BYTES

__all__ = [
    "ACCEPT_HEADER",
    "ARGON2ID",
    "AUTHENTICATE_HEADER",
    "BINARY_HEADER",
    "GRPC_PROOF_KEY",
    "GRPC_TOLL_KEY",
    "HASHCASH",
    "HASHCASHES",
    "HASHCASH_SHA1",
    "MAX_HEADER_RECEIPTS",
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
    "format_settle",
    "parse_accept",
    "parse_settle",
    "with_binary_length",
]

ACCEPT_HEADER = "Toll-Accept"
RECEIPT_HEADER = "Toll-Receipt"
SETTLE_HEADER = "Toll-Settle"
AUTHENTICATE_HEADER = "WWW-Authenticate"
BINARY_HEADER = "Inference-Header-Content-Length"  # Open Inference Protocol, binary tensor data extension

# Over gRPC the three Toll headers are metadata, in small letters. Two further keys, whose values are bytes:
GRPC_TOLL_KEY = "toll-bin"  # trailing metadata of FAILED_PRECONDITION: the JSON ``toll`` object with its token
GRPC_PROOF_KEY = "toll-proof-bin"  # of a request: what ``encode_redemption`` makes

MAX_HEADER_RECEIPTS = 16
_MIB = 1024
_RECEIPT_TEXT = 4 * (MAX_RECEIPT_BYTES + 2) // 3  # characters of the longest receipt
_SETTLE_TEXT = MAX_HEADER_RECEIPTS * (_RECEIPT_TEXT + len(", "))
_BINARY_PARAMETER = f"; {BINARY_HEADER.lower()}="
_BINARY_DIGITS = 10


@quick_init
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
    """The value of ``Toll-Accept``, for example ``argon2id, sha256; mode=sealed; memory=64MiB; receipts``."""
    receipts = "; receipts" if accept.receipts else ""
    return f"{', '.join(accept.puzzles)}; mode={accept.mode}; memory={accept.memory_kib // _MIB}MiB{receipts}"


@lru_cache(maxsize=256)  # a client repeats its header with every request
def parse_accept(value: str, known: tuple[str, ...] = PUZZLES) -> Accept:
    """Parse a ``Toll-Accept`` header, of which the first 256 characters count. Never raises.

    Names that are not ``known`` puzzles are left out. The options may be in any order.
    """
    names, *options = value[:256].split(";")
    puzzles = tuple(name for name in (part.strip().lower() for part in names.split(",")) if name in known)
    default = Accept()
    mode, memory, receipts = default.mode, default.memory_kib, default.receipts
    for option in options:
        key, equals, setting = option.strip().lower().partition("=")
        if key == "mode" and setting in MODES:
            mode = setting
        digits = setting.removesuffix("mib")
        if key == "memory" and digits.isascii() and digits.isdigit() and len(digits) < 7:
            memory = int(digits) * _MIB
        if key == "receipts" and not equals:
            receipts = True
    return Accept(puzzles or default.puzzles, mode, memory, receipts)


def format_settle(receipts: Iterable[bytes]) -> str:
    """The value of ``Toll-Settle``: receipts of opened seals, of which the first ``MAX_HEADER_RECEIPTS`` are taken."""
    return ", ".join([encode_base64url(receipt) for receipt in islice(receipts, MAX_HEADER_RECEIPTS)])


def parse_settle(value: str) -> tuple[bytes, ...]:
    """Parse a ``Toll-Settle`` header into receipts, each once, at most ``MAX_HEADER_RECEIPTS``. Never raises.

    What is not base64url of 1 to ``MAX_RECEIPT_BYTES`` bytes is left out, and so is what lies beyond the longest value
    that ``format_settle`` makes.
    """
    if not value:
        return ()
    receipts: dict[bytes, None] = {}
    for text in value[:_SETTLE_TEXT].split(","):
        try:
            receipt = decode_base64url(text.strip())
        except ValueError:
            continue
        if 1 <= len(receipt) <= MAX_RECEIPT_BYTES:
            receipts[receipt] = None
        if len(receipts) == MAX_HEADER_RECEIPTS:
            break
    return tuple(receipts)


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
