"""A client middleware for aiohttp (3.12 and later) that pays tolls without the caller noticing.

aiohttp.ClientSession(middlewares=[TollMiddleware(max_seconds=30)])
"""

from __future__ import annotations

import asyncio
import os
import threading
import zlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from http.client import responses as phrases
from typing import TYPE_CHECKING

from aiohttp import ClientConnectionError, ClientOSError, ClientRequest, ClientResponse, ServerDisconnectedError
from aiohttp.base_protocol import BaseProtocol
from aiohttp.streams import StreamReader
from multidict import CIMultiDict, CIMultiDictProxy

from modeltoll.client.http_messages import BoundedBody, is_forwarded, opened_headers
from modeltoll.client.purse import Purse
from modeltoll.client.toll_flow import RedeemStep, SolveStep, is_final_status, may_be_toll
from modeltoll.client.toll_session import TollSession
from modeltoll.records import Answer, Solution
from modeltoll.wire import ACCEPT_HEADER, STATUS

if TYPE_CHECKING:
    from aiohttp import ClientHandlerType

__all__ = ["TollMiddleware"]

_GZIP = b"\x1f\x8b\x08"  # no JSON begins like this
_LARGE = 1 << 20  # bodies above this many bytes are parsed beside the event loop
_BLOCK = 1 << 14  # compressed bytes at a time: a bomb is noticed before it fills the memory


class TollMiddleware:
    """A client middleware that pays tolls.

    What is no toll comes through as the server sent it, streamed where it was streamed; the request carries one more
    header, ``Toll-Accept``, unless it has one already. Work is done in threads beside the event loop, no more at once
    than the machine has cores, and stops when the call is cancelled. A ``total`` time-out of aiohttp counts the work
    too; its others are for the network.

    Args:
        max_seconds: the dearest toll to pay, in expected seconds on one core (``TollTooDear`` above it).
        purse: other limits; overrides ``max_seconds``.

    Raises (from the session's calls):
        TollMalformed, TollTooDear, SolveStopped, SealBroken: the toll was not paid, or bought nothing.
    """

    def __init__(self, max_seconds: float = 30.0, *, purse: Purse | None = None) -> None:
        self.purse = purse or Purse(max_seconds)
        benches = max(1, (os.cpu_count() or 1) // self.purse.cores)
        self._benches = ThreadPoolExecutor(benches, thread_name_prefix="modeltoll")

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Send, pay, open."""
        request.headers.setdefault(ACCEPT_HEADER, self.purse.wishes)
        response = await handler(request)
        if not may_be_toll(response.status, response.headers):
            return response
        raw = await _read(response)
        _copied(response, raw)
        steps = await self._steps(raw)
        while (step := steps.step) is not None:
            if isinstance(step, SolveStep):
                steps.earned(await self._labour(step))
                continue
            response = await _redeem(request, step, handler)
            body = b""
            if response.status == STATUS:
                body = _unpacked(await _read(response))
            elif not is_final_status(response.status):
                response.close()
            steps.redeemed(response.status, body)
        return response if steps.answer is None else _with_plain_headers(response, steps.answer)

    async def _steps(self, raw: bytes) -> TollSession:
        if len(raw) <= _LARGE:
            return TollSession(self.purse, _unpacked(raw))
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._benches, lambda: TollSession(self.purse, _unpacked(raw)))

    async def _labour(self, labour: SolveStep) -> Answer | Solution:
        stop = threading.Event()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._benches, labour.run, stop.is_set)
        finally:
            stop.set()


async def _redeem(original: ClientRequest, redemption: RedeemStep, handler: ClientHandlerType) -> ClientResponse:
    """Fetch what the original bought, from the same origin, with the same credentials."""
    request = type(original)(
        "POST",
        original.url.origin().with_path(redemption.path),
        headers=CIMultiDict((name, value) for name, value in original.headers.items() if is_forwarded(name)),
        data=redemption.body,
        loop=original.loop,
        response_class=original.response_class,
        proxy=original.proxy,
        proxy_auth=original.proxy_auth,
        proxy_headers=original.proxy_headers,
        timer=original._timer,  # noqa: SLF001  the call's one time-out
        session=original.session,
        ssl=original.ssl,
        traces=original._traces,  # noqa: SLF001
        server_hostname=original.server_hostname,
    )
    request.headers["Content-Type"] = "application/json"
    try:
        response = await handler(request)
    except (ClientOSError, ServerDisconnectedError) as error:
        # aiohttp would begin the whole call anew, and pay twice.
        raise ClientConnectionError(f"the answer is paid for, but was not fetched: {error}") from error
    response.method = original.method
    response._real_url = original.original_url  # noqa: SLF001  as it would be without a toll
    response._url = original.url  # noqa: SLF001
    return response


async def _read(response: ClientResponse) -> bytes:
    """The body, as aiohttp decodes it; the connection goes back to its pool."""
    body = BoundedBody()
    whole = False
    try:
        body.expect(response.headers.get("content-length", ""))
        async for chunk in response.content.iter_any():
            body.add(chunk)
        whole = True
    finally:
        if not whole:
            response.close()
    return body.joined()


def _unpacked(raw: bytes) -> bytes:
    """The body without gzip, which a session that does not decompress leaves on it."""
    if not raw.startswith(_GZIP):
        return raw
    body, gzip = BoundedBody(), zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        for start in range(0, len(raw), _BLOCK):
            body.add(gzip.decompress(raw[start : start + _BLOCK]))
    except zlib.error:
        return raw  # no toll: it stands as it came
    return body.joined()


def _copied(response: ClientResponse, body: bytes, headers: Iterable[tuple[str, str]] | None = None) -> None:
    """Put a body, and perhaps other headers, into a response that was read."""
    loop = asyncio.get_running_loop()
    response.content = StreamReader(BaseProtocol(loop), max(len(body), 1), loop=loop)
    response.content.feed_data(body)
    response.content.feed_eof()
    if headers is not None:
        renewed = CIMultiDict(headers)
        response._headers = CIMultiDictProxy(renewed)  # noqa: SLF001  aiohttp has no public way
        response._raw_headers = tuple(  # noqa: SLF001
            (name.encode("utf-8", "surrogateescape"), value.encode("utf-8", "surrogateescape"))
            for name, value in renewed.items()
        )
        response._cache.clear()  # noqa: SLF001


def _with_plain_headers(response: ClientResponse, answer: Answer) -> ClientResponse:
    """The response with the answer in it, and with the other headers of the 402 that it came in."""
    response.status = answer.status
    response.reason = phrases.get(answer.status, "")
    _copied(response, answer.body, opened_headers(response.headers.items(), answer))
    return response
