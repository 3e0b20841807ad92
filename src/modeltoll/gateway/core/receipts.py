"""Receipts as clients carry them: encrypted under a key of the ledger, so that they can be neither read nor changed.

Receipt: version (1 byte) || nonce (12 bytes) || AES-256-GCM of identity (16), expiry, unsettled seconds (8 each, big-endian
doubles) and rows (8). The caller's name is authenticated, so that a receipt counts for the caller it was issued to alone.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from modeltoll.settlement_records import Receipt

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable

    from modeltoll.records import Caller

__all__ = ["RECEIPT_SECONDS", "decrypt_receipts", "encrypt_receipt"]

RECEIPT_SECONDS = 86_400.0  # for which a receipt can be returned
_VERSION = b"\x02"
_NONCE_BYTES = 12
_LABEL = b"modeltoll receipt v2\0"
_FORM = struct.Struct(">16sddQ")
_ENCRYPTED_BYTES = len(_VERSION) + _NONCE_BYTES + _FORM.size + 16


@lru_cache(maxsize=4)  # a ledger has one key
def _cipher(key: bytes) -> AESGCM:
    return AESGCM(key)


def encrypt_receipt(key: bytes, caller: Caller, receipt: Receipt, rng: random.Random) -> bytes:
    """The bytes that go to the caller; ``key`` has 32 bytes. What a receipt prepays is not contained."""
    nonce = rng.randbytes(_NONCE_BYTES)
    text = _FORM.pack(receipt.identity, receipt.expires, receipt.unsettled, receipt.rows)
    return _VERSION + nonce + _cipher(key).encrypt(nonce, text, _LABEL + caller.name.encode())


def decrypt_receipts(key: bytes, caller: Caller, encrypted: Iterable[bytes]) -> tuple[Receipt, ...]:
    """The receipts that were issued to the caller, each once. Whatever else was sent is left out."""
    cipher, label = _cipher(key), _LABEL + caller.name.encode()
    found: dict[bytes, Receipt] = {}
    for one in encrypted:
        if len(one) != _ENCRYPTED_BYTES or one[:1] != _VERSION:
            continue
        try:
            text = cipher.decrypt(one[1 : 1 + _NONCE_BYTES], one[1 + _NONCE_BYTES :], label)
        except InvalidTag:
            continue
        identity, expires, unsettled, rows = _FORM.unpack(text)
        found[identity] = Receipt(identity, expires, unsettled, rows)
    return tuple(found.values())
