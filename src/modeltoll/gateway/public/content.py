"""Reads the body of an inference request as the model server is to get it: without its compression, with its content type."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

from modeltoll.decompression import coding_of, inflated_blocks
from modeltoll.errors import BodyTooLarge, ContentTypeRefused, RequestError
from modeltoll.gateway.core.request import SHADOW
from modeltoll.gateway.core.unmeasured import CONTENT_TYPE
from modeltoll.gateway.protocols.protocol import JSON
from modeltoll.gateway.protocols.strict_json import BYTE_ORDER_MARK
from modeltoll.gateway.public.parsing import content_of, read_body
from modeltoll.record_init import quick_init

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request

    from modeltoll.gateway.core.gate import Gate
    from modeltoll.gateway.protocols.protocol import ServingProtocol
    from modeltoll.gateway.public.ingress import IngressPolicy
    from modeltoll.gateway.public.shared_capacity import CapacityHolding

__all__ = ["Content", "ContentReader"]

_ANY = "application/octet-stream"
_CODING = "content-encoding"
_JSON_BEGINS = (b"{", b"[", b'"')


@quick_init
@dataclass(frozen=True, slots=True)
class Content:
    """The body of a request, and its content type for the model server.

    ``unread``: why shadow mode does not read it; empty where it is read. ``headers`` go with it to the model server: its
    content encoding, where it stays compressed.
    """

    body: bytes
    content_type: str
    unread: str = ""
    headers: tuple[tuple[str, str], ...] = ()


class ContentReader:
    """The content of one request, to any of ``gates``; made from its head, before its body is read.

    Raises:
        ContentTypeRefused, RequestError: as ``content_of``; the body is compressed with something else than gzip or deflate.
    """

    def __init__(self, gates: Sequence[Gate], http_request: Request, protocol: ServingProtocol) -> None:
        self._request = http_request
        self._open = len(gates) == 1 and gates[0].config.mode == SHADOW  # then everything passes
        self._content_type, self._unread = content_of(gates, http_request, protocol)
        self._encoding = ", ".join(http_request.headers.getlist(_CODING))
        try:
            self._coding: str | None = coding_of(self._encoding)
        except ValueError as error:
            if not (self._open and self._encoding.isascii() and self._encoding.isprintable()):
                raise ContentTypeRefused(f"the request's body is {error}; gzip and deflate are read here") from None
            self._coding = None  # one that is not known

    async def read(self, policy: IngressPolicy, holding: CapacityHolding) -> Content:
        """Read the body. Compressed and plain, it is of at most ``policy.max_body`` bytes, and counts in ``holding``.

        Raises:
            What ``read_body`` raises; RequestError: it is not compressed as it says.
        """
        raw = await read_body(self._request, policy.max_body, holding, policy.least_rate, compressed=True)
        if self._coding is None:
            return self._compressed(raw)
        if not self._coding:
            return self._plain(raw)
        try:
            return self._plain(await _inflated(raw, self._coding, policy.max_body, holding))
        except (RequestError, BodyTooLarge):
            if not self._open:
                raise
            return self._compressed(raw)

    def _compressed(self, raw: bytes) -> Content:
        unread = f"{CONTENT_TYPE}: compressed with {self._encoding}"
        return Content(raw, self._content_type, self._unread or unread, ((_CODING, self._encoding),))

    def _plain(self, body: bytes) -> Content:
        """In shadow mode a body that is not said to be JSON, and does not look like it, is passed on without that claim."""
        untyped = self._open and self._content_type == JSON and "content-type" not in self._request.headers
        if untyped and not body.removeprefix(BYTE_ORDER_MARK).lstrip().startswith(_JSON_BEGINS):
            return Content(body, _ANY, f"{CONTENT_TYPE}: none")
        return Content(body, self._content_type, self._unread)


async def _inflated(raw: bytes, coding: str, limit: int, holding: CapacityHolding) -> bytes:
    """The plain body, whose bytes are added to ``holding`` as they come; inflated in another thread."""
    body, blocks = BytesIO(), inflated_blocks(raw, coding, limit)
    try:
        while (block := await asyncio.to_thread(next, blocks, None)) is not None:
            holding.add(len(block))
            body.write(block)
    except ValueError as error:
        raise RequestError(f"the request's body is compressed, and cannot be read: {error}") from None
    except OverflowError:
        raise BodyTooLarge(f"the request's body is larger than {limit} bytes when it is not compressed") from None
    return body.getvalue()
