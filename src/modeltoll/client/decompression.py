"""Decompression of the bodies of tolls: at most one layer of gzip or deflate, bounded before it inflates."""

from __future__ import annotations

import zlib
from io import BytesIO

from modeltoll.errors import TollMalformed
from modeltoll.wire import MAX_TOLL_BYTES

__all__ = ["CODINGS", "check_encoding", "decompressed"]

CODINGS = frozenset(("gzip", "x-gzip", "deflate", "identity"))
_BLOCK = 1 << 16  # bytes that are inflated at once
_GZIP_BITS, _ZLIB_BITS, _RAW_BITS = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS
_DEFLATE_METHOD = 8  # in the first byte of zlib's format (RFC 1950), which some servers leave out


def check_encoding(encoding: str) -> str:
    """The one coding that a ``Content-Encoding`` names: ``gzip``, ``deflate``, or empty for none.

    Raises:
        TollMalformed: several codings, or another one.
    """
    codings = [name for name in (part.strip().lower() for part in encoding.split(",")) if name not in ("", "identity")]
    if not codings:
        return ""
    if len(codings) > 1 or codings[0] not in CODINGS:
        raise TollMalformed("the toll's body has more than one layer of compression, or neither gzip nor deflate")
    return codings[0].removeprefix("x-")


def decompressed(raw: bytes, encoding: str) -> bytes:
    """The body without the coding that its ``Content-Encoding`` names; empty if it is not of that coding.

    No more than ``MAX_TOLL_BYTES`` and one block are allocated, whatever the body inflates to.

    Raises:
        TollMalformed: the body is larger, data follows the compressed body, or see ``check_encoding``.
    """
    coding = check_encoding(encoding)
    if not coding or not raw:
        return raw
    bits = _GZIP_BITS
    if coding == "deflate":
        bits = _ZLIB_BITS if raw[0] & 0x0F == _DEFLATE_METHOD else _RAW_BITS
    try:
        return _inflated(raw, bits)
    except zlib.error:
        return b""


def _inflated(raw: bytes, bits: int) -> bytes:
    inflater, body, at = zlib.decompressobj(bits), BytesIO(), 0
    while not inflater.eof:
        pending = inflater.unconsumed_tail
        if not pending:
            pending, at = raw[at : at + _BLOCK], at + _BLOCK
        if not pending:
            raise zlib.error("the compressed body is incomplete")
        body.write(inflater.decompress(pending, _BLOCK))
        if body.tell() > MAX_TOLL_BYTES:
            raise TollMalformed(f"the toll is larger than {MAX_TOLL_BYTES} bytes")
    if inflater.unused_data or at < len(raw):
        raise TollMalformed("data follows the toll's compressed body")
    return body.getvalue()  # without a copy
