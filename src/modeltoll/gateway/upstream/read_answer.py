"""Reads the response of a model server within limits, and undoes a compression that nobody asked for."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from modeltoll import wire
from modeltoll.errors import AnswerError
from modeltoll.gateway.upstream.answer_headers import passed_headers
from modeltoll.gateway.upstream.upstream import AnswerStream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiohttp

__all__ = ["answer_stream"]

_WINDOWS = {"gzip": zlib.MAX_WBITS | 16, "x-gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}
_PLAIN = ("", "identity")


def answer_stream(response: aiohttp.ClientResponse, max_body: int, allowed: tuple[str, ...]) -> AnswerStream:
    """The response as an answer: of at most ``max_body`` bytes, with the ``allowed`` headers.

    Raises:
        AnswerError: it has a content type that cannot be passed on; or, in the iteration, it is larger, or compressed in a
            way that is not known.
    """
    headers = response.headers
    content_type = headers.get("Content-Type", "application/octet-stream")
    if not (content_type.isascii() and content_type.isprintable()):
        raise AnswerError("the model server's content type cannot be read")
    encoding = headers.get("Content-Encoding", "").strip().lower()
    chunks = _bounded(response, max_body)
    if encoding not in _PLAIN:
        chunks = _decompressed(chunks, encoding, max_body)
    folded = wire.with_binary_length(content_type, headers.get(wire.BINARY_HEADER))
    return AnswerStream(response.status, folded, passed_headers(response.status, headers.items(), allowed), chunks)


async def _bounded(response: aiohttp.ClientResponse, max_body: int) -> AsyncIterator[bytes]:
    if (response.content_length or 0) > max_body:
        raise _too_large(max_body)
    size = 0
    async for chunk in response.content.iter_any():
        size += len(chunk)
        if size > max_body:
            raise _too_large(max_body)
        yield chunk


async def _decompressed(chunks: AsyncIterator[bytes], encoding: str, max_body: int) -> AsyncIterator[bytes]:
    """The chunks without their one layer of compression; no more than ``max_body`` bytes are made of them."""
    engine, size = None, 0
    async for chunk in chunks:
        if encoding not in _WINDOWS:
            raise AnswerError(
                f"the model server's answer is compressed ({encoding[:32]!r}), though it was not asked for"
            )
        engine = engine or zlib.decompressobj(_WINDOWS[encoding])
        try:
            text = engine.decompress(chunk, max_body - size + 1)
        except zlib.error:
            raise AnswerError("the model server's compressed answer cannot be read") from None
        size += len(text)
        if size > max_body:
            raise _too_large(max_body)
        if engine.unused_data:
            break
        if text:
            yield text
    if engine is not None and (not engine.eof or engine.unused_data):
        raise AnswerError("the model server's compressed answer cannot be read")


def _too_large(max_body: int) -> AnswerError:
    return AnswerError(f"the model server's answer is larger than {max_body} bytes")
