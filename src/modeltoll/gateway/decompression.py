"""Undoes one layer of compression of a body, bounded while it inflates."""

from __future__ import annotations

import zlib
from io import BytesIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

__all__ = ["coding_of", "inflated", "inflated_blocks", "inflated_chunks"]

_BLOCK = 1 << 18  # bytes that are inflated at once
_GZIP_BITS, _ZLIB_BITS, _RAW_BITS = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS
_DEFLATE_METHOD = 8  # in the first byte of zlib's format (RFC 1950), which some programs leave out
_GZIP = frozenset(("gzip", "x-gzip"))
_DEFLATE = "deflate"


def coding_of(header: str) -> str:
    """The one coding that a ``Content-Encoding`` names: ``gzip`` or ``deflate``; empty for none.

    Raises:
        ValueError: several codings, or another one.
    """
    codings = [name for name in (part.strip().lower() for part in header.split(",")) if name not in ("", "identity")]
    if not codings:
        return ""
    if len(codings) > 1 or codings[0] not in _GZIP | {_DEFLATE}:
        raise ValueError(f"compressed with {header[:32]!r}")
    return codings[0].removeprefix("x-")


def inflated_blocks(raw: bytes, coding: str, limit: int) -> Iterator[bytes]:
    """The plain bytes of a compressed body, in blocks; no more than ``limit`` bytes and one block are ever made.

    Raises:
        ValueError: the body is not of this coding, not complete, or data follows it. OverflowError: it is larger.
    """
    engine, size, left = _engine(coding, raw), 0, raw
    while not engine.eof:
        try:
            block = engine.decompress(left, _BLOCK)
        except zlib.error as error:
            raise ValueError(f"not {coding}") from error
        if not block and not engine.eof:
            raise ValueError("the compressed body is not complete")
        left, size = engine.unconsumed_tail, size + len(block)
        if size > limit:
            raise OverflowError(f"larger than {limit} bytes")
        yield block
    if engine.unused_data:
        raise ValueError("data follows the compressed body")


def inflated(raw: bytes, coding: str, limit: int) -> bytes:
    """The plain bytes of a compressed body. Raises as ``inflated_blocks``."""
    body = BytesIO()
    for block in inflated_blocks(raw, coding, limit):
        body.write(block)
    return body.getvalue()


async def inflated_chunks(chunks: AsyncIterator[bytes], coding: str, limit: int) -> AsyncIterator[bytes]:
    """The plain bytes of a compressed body that comes in chunks, as they come; an empty body is plain.

    Raises as ``inflated_blocks``.
    """
    engine, size = None, 0
    async for chunk in chunks:
        engine = engine or _engine(coding, chunk)
        left = chunk
        while left and not engine.eof:
            try:
                block = engine.decompress(left, _BLOCK)
            except zlib.error as error:
                raise ValueError(f"not {coding}") from error
            left, size = engine.unconsumed_tail, size + len(block)
            if size > limit:
                raise OverflowError(f"larger than {limit} bytes")
            if block:
                yield block
        if left or engine.unused_data:
            raise ValueError("data follows the compressed body")
    if engine is not None and not engine.eof:
        raise ValueError("the compressed body is not complete")


def _engine(coding: str, first: bytes) -> zlib._Decompress:
    """What inflates a body that begins with these bytes."""
    bits = _GZIP_BITS
    if coding == _DEFLATE:
        bits = _ZLIB_BITS if first and first[0] & 0x0F == _DEFLATE_METHOD else _RAW_BITS
    return zlib.decompressobj(bits)
