"""The fingerprints of rows as the ledger keeps them."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

from modeltoll.records import FINGERPRINT_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["keyed"]

_VERSIONS = "/versions/"  # before a version in the path of a request


def keyed(
    key: bytes, read: tuple[str, str, tuple[tuple[str, str], ...]], fingerprints: Sequence[bytes]
) -> tuple[bytes, ...]:
    """The fingerprints of a request's rows under a key of the ledger: nobody without it finds two rows with the same one.

    ``read``: the request's path, its query, and its headers that the model may read. Rows for another version of the model,
    with another query or with other headers are other rows.
    """
    path, query, headers = read
    shared = blake2b(path.partition(_VERSIONS)[2].encode() + b"\0", key=key, digest_size=FINGERPRINT_BYTES)
    if query or headers:
        shared.update(blake2b(repr((query, headers)).encode()).digest())
    found = []
    for fingerprint in fingerprints:
        one = shared.copy()
        one.update(fingerprint)
        found.append(one.digest())
    return tuple(found)
