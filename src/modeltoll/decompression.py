"""Undoes one layer of gzip or deflate of a body, bounded while it inflates."""

from __future__ import annotations

import zlib
from io import BytesIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

__all__ = ["CODINGS", "DataFollows", "coding_of", "inflated", "inflated_blocks", "inflated_chunks"]

CODINGS = frozenset(("gzip", "x-gzip", "deflate", "identity"))  # of ``Content-Encoding``, as ``coding_of`` takes them
_BLOCK = 1 << 18  # bytes that are inflated at once
_PIECE = 1 << 16  # bytes of a whole body that are read at once
_GZIP_BITS, _ZLIB_BITS, _RAW_BITS = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS
_DEFLATE_METHOD = 8  # in the first byte of zlib's format (RFC 1950), which some programs leave out


class DataFollows(ValueError):
    """Data follows a compressed body. Programs differ in what they read there."""


def coding_of(header: str) -> str:
    """The one coding that a ``Content-Encoding`` names: ``gzip`` or ``deflate``; empty for none.

    Raises:
        ValueError: several codings, or another one.
    """
    codings = [name for name in (part.strip().lower() for part in header.split(",")) if name not in ("", "identity")]
    if not codings:
        return ""
    if len(codings) > 1 or codings[0] not in CODINGS:
        raise ValueError(f"compressed with {header[:32]!r}")
    return codings[0].removeprefix("x-")


def inflated_blocks(raw: bytes, coding: str, limit: int) -> Iterator[bytes]:
    """The plain bytes of a compressed body, in blocks; no more than ``limit`` bytes and one block are ever made.

    Raises:
        ValueError: the body is not of this coding, not complete, or data follows it (``DataFollows``).
        OverflowError: it is larger.
    """
    inflater = _Inflater(coding, limit)
    for start in range(0, len(raw), _PIECE):
        yield from inflater.blocks(raw[start : start + _PIECE])
    inflater.check_end()


def inflated(raw: bytes, coding: str, limit: int) -> bytes:
    """The plain bytes of a compressed body. Raises as ``inflated_blocks``."""
    body = BytesIO()
    for block in inflated_blocks(raw, coding, limit):
        body.write(block)
    return body.getvalue()  # without a copy


async def inflated_chunks(chunks: AsyncIterator[bytes], coding: str, limit: int) -> AsyncIterator[bytes]:
    """The plain bytes of a compressed body that comes in chunks, as they come; an empty body is plain.

    Raises as ``inflated_blocks``.
    """
    inflater, is_empty = _Inflater(coding, limit), True
    async for chunk in chunks:
        for block in inflater.blocks(chunk):
            yield block
        is_empty = is_empty and not chunk
    if not is_empty:
        inflater.check_end()


class _Inflater:
    """Inflates a body of one coding to at most ``limit`` bytes, chunk by chunk. Raises as ``inflated_blocks``."""

    def __init__(self, coding: str, limit: int) -> None:
        self._coding = coding
        self._limit = limit
        self._size = 0
        self._engine: zlib._Decompress | None = None

    def blocks(self, chunk: bytes) -> Iterator[bytes]:
        """What a chunk inflates to, in blocks of at most ``_BLOCK`` bytes."""
        if not chunk:
            return
        engine, left = self._engine or self._start(chunk), chunk
        if engine.eof:
            raise DataFollows("data follows the compressed body")
        more = True
        while more:
            try:
                block = engine.decompress(left, _BLOCK)
            except zlib.error as error:
                raise ValueError(f"not {self._coding}") from error
            left = engine.unconsumed_tail
            more = len(block) == _BLOCK and not engine.eof  # a full block may leave more of it in the engine
            self._size += len(block)
            if self._size > self._limit:
                raise OverflowError(f"larger than {self._limit} bytes")
            if block:
                yield block
        if engine.unused_data:
            raise DataFollows("data follows the compressed body")

    def check_end(self) -> None:
        """Raise ``ValueError`` where the body is not complete."""
        if self._engine is None or not self._engine.eof:
            raise ValueError("the compressed body is not complete")

    def _start(self, first: bytes) -> zlib._Decompress:
        bits = _GZIP_BITS
        if self._coding == "deflate":
            bits = _ZLIB_BITS if first[0] & 0x0F == _DEFLATE_METHOD else _RAW_BITS
        self._engine = zlib.decompressobj(bits)
        return self._engine
