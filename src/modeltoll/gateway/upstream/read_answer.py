"""Reads the response of a model server within limits, and undoes a compression that nobody asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from modeltoll import wire
from modeltoll.decompression import coding_of, inflated_chunks
from modeltoll.errors import AnswerTooLarge, AnswerUnusable
from modeltoll.gateway.upstream.answer_headers import passed_headers
from modeltoll.gateway.upstream.upstream import AnswerStream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiohttp

__all__ = ["answer_stream", "plain_stream"]

_HEADER = "content-encoding"
_ENCODING_CHARACTERS = 64


def answer_stream(response: aiohttp.ClientResponse, max_body: int, allowed: tuple[str, ...]) -> AnswerStream:
    """The response as an answer: of at most ``max_body`` bytes, with the ``allowed`` headers.

    Raises:
        AnswerUnusable: it has a content type that cannot be passed on; or, in the iteration, it is larger, or not compressed as
            it says.
    """
    headers = response.headers
    content_type = headers.get("Content-Type", "application/octet-stream")
    if not (content_type.isascii() and content_type.isprintable()):
        raise AnswerUnusable("the model server's content type cannot be read")
    folded = wire.with_binary_length(content_type, headers.get(wire.BINARY_HEADER))
    passed = passed_headers(response.status, headers.items(), allowed)
    stream = AnswerStream(response.status, folded, passed, _bounded(response, max_body))
    return plain_stream(stream, headers.get(_HEADER, ""), max_body)


async def _bounded(response: aiohttp.ClientResponse, max_body: int) -> AsyncIterator[bytes]:
    if (response.content_length or 0) > max_body:
        raise _too_large(max_body)
    size = 0
    async for chunk in response.content.iter_any():
        size += len(chunk)
        if size > max_body:
            raise _too_large(max_body)
        yield chunk


def plain_stream(stream: AnswerStream, encoding: str, max_body: int) -> AnswerStream:
    """The answer without its one layer of compression; no more than ``max_body`` bytes are made of it.

    An answer that is compressed in a way that is not known stays as it is, with its ``content-encoding`` among its headers.

    Raises:
        AnswerUnusable: its ``Content-Encoding`` cannot be passed on; or, in the iteration, it is larger, or not compressed so.
    """
    try:
        coding = coding_of(encoding)
    except ValueError:
        if not (encoding.isascii() and encoding.isprintable()):
            raise AnswerUnusable("the model server's content encoding cannot be read") from None
        return replace(stream, headers=(*stream.headers, (_HEADER, encoding[:_ENCODING_CHARACTERS])))
    return replace(stream, chunks=_inflated(stream.chunks, coding, max_body)) if coding else stream


async def _inflated(chunks: AsyncIterator[bytes], coding: str, max_body: int) -> AsyncIterator[bytes]:
    try:
        async for chunk in inflated_chunks(chunks, coding, max_body):
            yield chunk
    except ValueError:
        raise AnswerUnusable("the model server's compressed answer cannot be read") from None
    except OverflowError:
        raise _too_large(max_body) from None


def _too_large(max_body: int) -> AnswerTooLarge:
    return AnswerTooLarge(f"the model server's answer is larger than {max_body} bytes")
