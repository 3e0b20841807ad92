"""What clients post to a gateway: redemptions of tokens and settlements of receipts; and where they post it.

Input may come from a hostile peer: each member's type, range and size is checked before it is used.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from modeltoll.errors import TollMalformed
from modeltoll.wire_json import (
    compact_json,
    decode_base64url,
    encode_base64url,
    parse_json,
    read_bytes,
    read_member,
)

__all__ = [
    "MAX_PARTS",
    "MAX_RECEIPT_BYTES",
    "MAX_SETTLEMENT_RECEIPTS",
    "PROOF_BYTES",
    "REDEEM_PATH",
    "REDEEM_PROBE",
    "SETTLE_PATH",
    "Redemption",
    "decode_redemption",
    "decode_settlement",
    "encode_redemption",
    "encode_settlement",
    "read_reference",
    "relative_reference",
]

REDEEM_PATH = "/.well-known/modeltoll/redeem"
SETTLE_PATH = "/.well-known/modeltoll/settle"
REDEEM_PROBE = b"{}"  # posted to REDEEM_PATH before work is done: answered with 204 if the path leads to a gateway
MAX_PARTS = 16
MAX_SETTLEMENT_RECEIPTS = 64
MAX_RECEIPT_BYTES = 256
PROOF_BYTES = 32
_COUNTERS = 2**64
_UP = "../"
_REFERENCE = re.compile(r"(?:\.\./){0,64}\.well-known/modeltoll/(redeem|settle)")


@dataclass(frozen=True, slots=True)
class Redemption:
    """A token, and what redeems it: the proof of its puzzle's solution, or of hashcash one counter per part."""

    token: bytes
    proof: bytes = b""
    counters: tuple[int, ...] = ()


def encode_redemption(token: bytes, *, proof: bytes = b"", counters: tuple[int, ...] = ()) -> bytes:
    """The body that a client posts to ``REDEEM_PATH``, as JSON.

    Raises:
        ValueError: both a proof and counters, or neither.
    """
    if bool(proof) == bool(counters):
        raise ValueError("a token is redeemed by a proof, or by counters where the puzzle is hashcash")
    solved = {"proof": encode_base64url(proof)} if proof else {"solution": list(counters)}
    return compact_json({"token": encode_base64url(token), **solved}).encode()


def decode_redemption(body: bytes) -> Redemption:
    """Parse a body posted to ``REDEEM_PATH``.

    Raises:
        TollMalformed: the body does not have that form.
    """
    document = _object(body, "redemption")
    if ("proof" in document) == ("solution" in document):
        raise TollMalformed("the redemption does not have either 'proof' or 'solution'")
    token = read_bytes(document, "token")
    if "proof" in document:
        return Redemption(token, proof=read_bytes(document, "proof", PROOF_BYTES))
    counters = read_member(document, "solution", list)
    if not 1 <= len(counters) <= MAX_PARTS or not all(type(n) is int and 0 <= n < _COUNTERS for n in counters):
        raise TollMalformed(f"the redemption's 'solution' is not a list of 1..{MAX_PARTS} counters")
    return Redemption(token, counters=tuple(counters))


def encode_settlement(receipts: tuple[bytes, ...]) -> bytes:
    """The body that a client posts to ``SETTLE_PATH``, as JSON.

    Raises:
        ValueError: no receipt, or more than ``MAX_SETTLEMENT_RECEIPTS``.
    """
    if not 1 <= len(receipts) <= MAX_SETTLEMENT_RECEIPTS:
        raise ValueError(f"a settlement is of 1..{MAX_SETTLEMENT_RECEIPTS} receipts, not {len(receipts)}")
    return compact_json({"receipts": [encode_base64url(receipt) for receipt in receipts]}).encode()


def decode_settlement(body: bytes) -> tuple[bytes, ...]:
    """Parse a body posted to ``SETTLE_PATH`` into the receipts, each of 1 to ``MAX_RECEIPT_BYTES`` bytes.

    Raises:
        TollMalformed: the body does not have that form.
    """
    encoded = read_member(_object(body, "settlement"), "receipts", list)
    if not 1 <= len(encoded) <= MAX_SETTLEMENT_RECEIPTS:
        raise TollMalformed(f"the settlement does not have 1..{MAX_SETTLEMENT_RECEIPTS} receipts")
    return tuple([_receipt(text) for text in encoded])


def _receipt(text: object) -> bytes:
    try:
        receipt = decode_base64url(text) if isinstance(text, str) else b""
    except ValueError:
        receipt = b""
    if not 1 <= len(receipt) <= MAX_RECEIPT_BYTES:
        raise TollMalformed(f"a receipt of the settlement is not base64url of 1..{MAX_RECEIPT_BYTES} bytes")
    return receipt


def _object(body: bytes, what: str) -> dict[str, Any]:
    document = parse_json(body)
    if not isinstance(document, dict):
        raise TollMalformed(f"the {what} is not an object")
    return document


def relative_reference(path: str, target: str) -> str:
    """The reference from a request's ``path`` below the gateway's root to the path ``target``.

    ``path`` is written as in the request's URL, percent-encoded: an encoded slash separates no segments. The reference
    resolves (RFC 3986) against the URL of the request, so it holds below any prefix that a proxy in front removes.
    Both paths begin with ``/``. Clients follow at most 64 steps upwards.
    """
    return _UP * (path.count("/") - 1) + target.removeprefix("/")


def read_reference(members: dict[str, Any], name: str) -> str:
    """The member of that name (``redeem`` or ``settle``), a relative reference to the path of that name.

    Raises:
        TollMalformed: missing, absolute, or to anything else.
    """
    reference: str = read_member(members, name, str)
    match = _REFERENCE.fullmatch(reference)
    if match is None or match[1] != name:
        raise TollMalformed(f"the toll's {name!r} is not a relative reference to the gateway's path for it")
    return reference
