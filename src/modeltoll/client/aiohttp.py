"""A client middleware for aiohttp (3.12 and later) that pays tolls.

Use it as ``aiohttp.ClientSession(middlewares=[TollMiddleware(max_seconds=30)])``.
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
_LARGE = 1 << 20  # bodies above this many bytes are parsed in a thread
_BLOCK = 1 << 14  # compressed bytes per step, so that a decompression bomb is found before it fills the memory


class TollMiddleware:
    """A client middleware that pays tolls.

    Responses other than tolls are passed on unchanged, streams as streams. Requests get the header ``Toll-Accept``,
    unless they have one. Puzzles are solved in threads, at most as many at once as the machine has cores; cancelling
    the call stops the work. The ``total`` timeout of aiohttp includes the work; its other timeouts do not.

    Args:
        max_seconds: the largest toll to pay, in expected seconds on one reference core; above it, ``TollTooDear``.
        purse: further limits; overrides ``max_seconds``.

    Raises (from the session's calls):
        TollMalformed, TollTooDear, SolveStopped, SealBroken: the toll was not paid, or its answer cannot be opened.
    """

    def __init__(self, max_seconds: float = 30.0, *, purse: Purse | None = None) -> None:
        self.purse = purse or Purse(max_seconds)
        workers = max(1, (os.cpu_count() or 1) // self.purse.cores)
        self._workers = ThreadPoolExecutor(workers, thread_name_prefix="modeltoll")

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Send the request; if the response is a toll, pay it and return the opened answer."""
        request.headers.setdefault(ACCEPT_HEADER, self.purse.accept_header)
        response = await handler(request)
        if not may_be_toll(response.status, response.headers):
            return response
        raw = await _read(response)
        _replace_body(response, raw)
        session = await self._start_session(raw)
        while (step := session.step) is not None:
            if isinstance(step, SolveStep):
                session.submit_result(await self._solve(step))
                continue
            response = await _redeem(request, step, handler)
            body = b""
            if response.status == STATUS:
                body = _decompressed(await _read(response))
            elif not is_final_status(response.status):
                response.close()
            session.submit_redemption(response.status, body)
        return response if session.answer is None else _opened_response(response, session.answer)

    async def _start_session(self, raw: bytes) -> TollSession:
        if len(raw) <= _LARGE:
            return TollSession(self.purse, _decompressed(raw))
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._workers, lambda: TollSession(self.purse, _decompressed(raw)))

    async def _solve(self, step: SolveStep) -> Answer | Solution:
        stop = threading.Event()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._workers, step.run, stop.is_set)
        finally:
            stop.set()


async def _redeem(original: ClientRequest, step: RedeemStep, handler: ClientHandlerType) -> ClientResponse:
    """Post a redemption to the origin of the original request, with the same credentials."""
    request = type(original)(
        "POST",
        original.url.origin().with_path(step.path),
        headers=CIMultiDict((name, value) for name, value in original.headers.items() if is_forwarded(name)),
        data=step.body,
        loop=original.loop,
        response_class=original.response_class,
        proxy=original.proxy,
        proxy_auth=original.proxy_auth,
        proxy_headers=original.proxy_headers,
        timer=original._timer,  # noqa: SLF001  the call's timeout
        session=original.session,
        ssl=original.ssl,
        traces=original._traces,  # noqa: SLF001
        server_hostname=original.server_hostname,
    )
    request.headers["Content-Type"] = "application/json"
    try:
        response = await handler(request)
    except (ClientOSError, ServerDisconnectedError) as error:
        # aiohttp would retry the whole call, and pay twice.
        raise ClientConnectionError(f"the toll is paid, but the answer was not received: {error}") from error
    response.method = original.method
    response._real_url = original.original_url  # noqa: SLF001  as without a toll
    response._url = original.url  # noqa: SLF001
    return response


async def _read(response: ClientResponse) -> bytes:
    """The body, decoded by aiohttp; the connection returns to its pool."""
    body = BoundedBody()
    whole = False
    try:
        body.check_declared_size(response.headers.get("content-length", ""))
        async for chunk in response.content.iter_any():
            body.add(chunk)
        whole = True
    finally:
        if not whole:
            response.close()
    return body.content()


def _decompressed(raw: bytes) -> bytes:
    """The body without gzip, which is left on it by a session with ``auto_decompress=False``."""
    if not raw.startswith(_GZIP):
        return raw
    body, gzip = BoundedBody(), zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        for start in range(0, len(raw), _BLOCK):
            body.add(gzip.decompress(raw[start : start + _BLOCK]))
    except zlib.error:
        return raw  # not a toll: returned unchanged
    return body.content()


def _replace_body(response: ClientResponse, body: bytes, headers: Iterable[tuple[str, str]] | None = None) -> None:
    """Replace the body, and optionally the headers, of a response that was read."""
    loop = asyncio.get_running_loop()
    response.content = StreamReader(BaseProtocol(loop), max(len(body), 1), loop=loop)
    response.content.feed_data(body)
    response.content.feed_eof()
    if headers is not None:
        renewed = CIMultiDict(headers)
        response._headers = CIMultiDictProxy(renewed)  # noqa: SLF001  aiohttp has no public interface for this
        response._raw_headers = tuple(  # noqa: SLF001
            (name.encode("utf-8", "surrogateescape"), value.encode("utf-8", "surrogateescape"))
            for name, value in renewed.items()
        )
        response._cache.clear()  # noqa: SLF001


def _opened_response(response: ClientResponse, answer: Answer) -> ClientResponse:
    """The response changed to the opened answer; headers of the 402 that do not describe its body are kept."""
    response.status = answer.status
    response.reason = phrases.get(answer.status, "")
    _replace_body(response, answer.body, opened_headers(response.headers.items(), answer))
    return response
