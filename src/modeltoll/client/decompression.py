"""Decompression of the bodies of tolls: at most one layer of gzip or deflate, bounded before it inflates."""

from __future__ import annotations

from modeltoll.decompression import DataFollows, coding_of, inflated
from modeltoll.errors import TollMalformed
from modeltoll.wire import MAX_TOLL_BYTES

__all__ = ["check_encoding", "decompressed"]


def check_encoding(encoding: str) -> str:
    """The one coding that a ``Content-Encoding`` names: ``gzip``, ``deflate``, or empty for none.

    Raises:
        TollMalformed: several codings, or another one.
    """
    try:
        return coding_of(encoding)
    except ValueError:
        raise TollMalformed(
            "the toll's body has more than one layer of compression, or neither gzip nor deflate"
        ) from None


def decompressed(raw: bytes, encoding: str) -> bytes:
    """The body without the coding that its ``Content-Encoding`` names; empty if it is not of that coding.

    No more than ``MAX_TOLL_BYTES`` and one block are allocated, whatever the body inflates to.

    Raises:
        TollMalformed: the body is larger, data follows the compressed body, or see ``check_encoding``.
    """
    coding = check_encoding(encoding)
    if not coding or not raw:
        return raw
    try:
        return inflated(raw, coding, MAX_TOLL_BYTES)
    except OverflowError:
        raise TollMalformed(f"the toll is larger than {MAX_TOLL_BYTES} bytes") from None
    except DataFollows:
        raise TollMalformed("data follows the toll's compressed body") from None
    except ValueError:
        return b""
