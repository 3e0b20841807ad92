"""Reads the response of a model server within limits, and undoes a compression that nobody asked for."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from modeltoll import wire
from modeltoll.errors import AnswerError
from modeltoll.gateway.upstream.answer_headers import passed_headers
from modeltoll.records import Answer

if TYPE_CHECKING:
    import aiohttp

__all__ = ["read_answer"]

_WINDOWS = {"gzip": zlib.MAX_WBITS | 16, "x-gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}
_PLAIN = ("", "identity")


async def read_answer(response: aiohttp.ClientResponse, max_body: int, allowed: tuple[str, ...]) -> Answer:
    """The response as an answer: of at most ``max_body`` bytes, with the ``allowed`` headers.

    Raises:
        AnswerError: it is larger, compressed in a way that is not known, or has a content type that cannot be passed on.
    """
    headers = response.headers
    content_type = headers.get("Content-Type", "application/octet-stream")
    if not (content_type.isascii() and content_type.isprintable()):
        raise AnswerError("the model server's content type cannot be read")
    body = await _bounded(response, max_body)
    encoding = headers.get("Content-Encoding", "").strip().lower()
    if encoding not in _PLAIN and body:
        body = _decompressed(body, encoding, max_body)
    folded = wire.with_binary_length(content_type, headers.get(wire.BINARY_HEADER))
    return Answer(response.status, folded, body, passed_headers(response.status, headers.items(), allowed))


async def _bounded(response: aiohttp.ClientResponse, max_body: int) -> bytes:
    if (response.content_length or 0) > max_body:
        raise _too_large(max_body)
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_any():
        size += len(chunk)
        if size > max_body:
            raise _too_large(max_body)
        chunks.append(chunk)
    return b"".join(chunks)


def _decompressed(body: bytes, encoding: str, max_body: int) -> bytes:
    """The body without its one layer of compression; no more than ``max_body`` bytes are made of it."""
    if encoding not in _WINDOWS:
        raise AnswerError(f"the model server's answer is compressed ({encoding[:32]!r}), though it was not asked for")
    engine = zlib.decompressobj(_WINDOWS[encoding])
    try:
        text = engine.decompress(body, max_body + 1)
    except zlib.error:
        raise AnswerError("the model server's compressed answer cannot be read") from None
    if len(text) > max_body:
        raise _too_large(max_body)
    if not engine.eof or engine.unused_data:
        raise AnswerError("the model server's compressed answer cannot be read")
    return text


def _too_large(max_body: int) -> AnswerError:
    return AnswerError(f"the model server's answer is larger than {max_body} bytes")
