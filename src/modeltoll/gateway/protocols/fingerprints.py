"""Fingerprints of rows: hashes over the canonical bytes of everything that the model reads for a row."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["FINGERPRINT_BYTES", "fingerprint", "row_fingerprints"]

FINGERPRINT_BYTES = 32
_DOMAIN = b"modeltoll row 2"  # BLAKE2b's personalisation: no other hash of the project has it
_LENGTH_BYTES = 8


def fingerprint(*parts: bytes) -> bytes:
    """The fingerprint of one row: BLAKE2b, 32 bytes, without a key, over the parts, each with its length before it."""
    return row_fingerprints(parts, [()])[0]


def row_fingerprints(context: Iterable[bytes], rows: Iterable[Sequence[bytes]]) -> tuple[bytes, ...]:
    """The fingerprint of each row: of the ``context``, which all rows of a request share, and of the row's own parts."""
    shared = blake2b(digest_size=FINGERPRINT_BYTES, person=_DOMAIN)
    for part in context:
        shared.update(len(part).to_bytes(_LENGTH_BYTES, "big") + part)
    prints = []
    for parts in rows:
        one = shared.copy()
        for part in parts:
            one.update(len(part).to_bytes(_LENGTH_BYTES, "big") + part)
        prints.append(one.digest())
    return tuple(prints)
