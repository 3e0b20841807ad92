"""Reads the response of a model server within limits, and undoes a compression that nobody asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from modeltoll import wire
from modeltoll.errors import AnswerError
from modeltoll.gateway.decompression import coding_of, inflated
from modeltoll.gateway.upstream.answer_headers import passed_headers
from modeltoll.records import Answer

if TYPE_CHECKING:
    import aiohttp

__all__ = ["plain_answer", "read_answer"]

_HEADER = "content-encoding"
_ENCODING_CHARACTERS = 64


async def read_answer(response: aiohttp.ClientResponse, max_body: int, allowed: tuple[str, ...]) -> Answer:
    """The response as an answer: of at most ``max_body`` bytes, with the ``allowed`` headers.

    Raises:
        AnswerError: it is larger, not compressed as it says, or has a content type that cannot be passed on.
    """
    headers = response.headers
    content_type = headers.get("Content-Type", "application/octet-stream")
    if not (content_type.isascii() and content_type.isprintable()):
        raise AnswerError("the model server's content type cannot be read")
    body = await _bounded(response, max_body)
    folded = wire.with_binary_length(content_type, headers.get(wire.BINARY_HEADER))
    passed = passed_headers(response.status, headers.items(), allowed)
    answer = Answer(response.status, folded, body, passed)
    return plain_answer(answer, headers.get(_HEADER, ""), max_body)


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


def plain_answer(answer: Answer, encoding: str, max_body: int) -> Answer:
    """The answer without its one layer of compression; no more than ``max_body`` bytes are made of it.

    An answer that is compressed in a way that is not known stays as it is, with its ``content-encoding`` among its headers.

    Raises:
        AnswerError: it is larger, or not what its ``Content-Encoding`` says, or that cannot be passed on.
    """
    try:
        coding = coding_of(encoding)
    except ValueError:
        if not (encoding.isascii() and encoding.isprintable()):
            raise AnswerError("the model server's content encoding cannot be read") from None
        return replace(answer, headers=(*answer.headers, (_HEADER, encoding[:_ENCODING_CHARACTERS])))
    if not coding or not answer.body:
        return answer
    try:
        return replace(answer, body=inflated(answer.body, coding, max_body))
    except ValueError:
        raise AnswerError("the model server's compressed answer cannot be read") from None
    except OverflowError:
        raise _too_large(max_body) from None


def _too_large(max_body: int) -> AnswerError:
    return AnswerError(f"the model server's answer is larger than {max_body} bytes")
