"""A client middleware for aiohttp (3.13.3 and later) that pays tolls.

Use it as ``aiohttp.ClientSession(middlewares=[TollMiddleware(max_seconds=30)])``.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import responses as phrases
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from aiohttp import (
    ClientConnectionError,
    ClientOSError,
    ClientRequest,
    ClientResponse,
    ClientSession,
    ServerDisconnectedError,
)
from aiohttp.base_protocol import BaseProtocol
from aiohttp.payload import BytesPayload
from aiohttp.streams import StreamReader
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from modeltoll.client.aiohttp_settling import SessionSettler
from modeltoll.client.decompression import check_encoding, decompressed
from modeltoll.client.event_streams import EVENTS_BEFORE_OTHERS, events_of, is_event_stream
from modeltoll.client.http_messages import BoundedBody, announce, is_forwarded, opened_headers
from modeltoll.client.purse import Purse
from modeltoll.client.toll_call import TollCall
from modeltoll.client.toll_flow import POLL_SECONDS, RedeemStep, ResendStep, SolveStep, WaitStep, may_be_toll
from modeltoll.client.toll_session import TollSession
from modeltoll.records import Answer
from modeltoll.toll_records import Solution

if TYPE_CHECKING:
    from aiohttp import ClientHandlerType

__all__ = ["TollMiddleware"]

_LARGE = 1 << 20  # bodies above this many bytes are parsed in a thread


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
        self._settlers: WeakKeyDictionary[ClientSession, SessionSettler] = WeakKeyDictionary()
        workers = max(1, (os.cpu_count() or 1) // self.purse.cores)
        self._workers = ThreadPoolExecutor(workers, thread_name_prefix="modeltoll")

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Send the request; if the response is a toll, pay it and return the opened answer."""
        announce(request.headers, self.purse.accept_header)
        settler = self._settler(request.session)
        repeatable = isinstance(request.body, bytes | BytesPayload)
        call = TollCall(self.purse, str(request.url), request.headers, repeatable=repeatable, owner=settler.owner)
        response = await _send_with_receipts(call, request, handler)
        if not may_be_toll(response.status, response.headers):
            return response
        self._begin_toll()
        with closing(await self._start_session(call, *await _read_again(response))) as session:
            try:
                response = await self._pay(session, call, request, response, handler)
            finally:
                settler.arm(request)
        return (
            response if session.answer is None else _opened_response(response, session.answer, self.purse.replay_pace)
        )

    def _begin_toll(self) -> None:
        """Called in the task of a request when its response may be a toll, whose body may come late."""

    async def _pay(
        self,
        session: TollSession,
        call: TollCall,
        request: ClientRequest,
        response: ClientResponse,
        handler: ClientHandlerType,
    ) -> ClientResponse:
        """Carry out the steps of the toll in a response; returns the last response."""
        while (step := session.step) is not None:
            if isinstance(step, SolveStep):
                session.submit_result(await self._solve(step))
                continue
            if isinstance(step, WaitStep):
                while not step.ready():  # noqa: ASYNC110  other threads end them
                    await asyncio.sleep(POLL_SECONDS)
                session.end_wait()
                continue
            if isinstance(step, ResendStep):
                response = await _send_with_receipts(call, request, handler)
            else:
                response = await _redeem(request, step, handler)
            body = b""
            if step.reads(response.status, response.headers):
                body = decompressed(*await _read_again(response))
            session.submit_response(response.status, body)
        return response

    def _settler(self, session: ClientSession) -> SessionSettler:
        settler = self._settlers.get(session)
        if settler is None:
            settler = self._settlers[session] = SessionSettler(self.purse.receipts, session)
        return settler

    async def _start_session(self, call: TollCall, raw: bytes, encoding: str) -> TollSession:
        if len(raw) <= _LARGE:
            return TollSession(call, decompressed(raw, encoding))
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._workers, lambda: TollSession(call, decompressed(raw, encoding)))

    async def _solve(self, step: SolveStep) -> Answer | Solution:
        stop = threading.Event()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._workers, step.run, stop.is_set)
        finally:
            stop.set()


async def _send_with_receipts(call: TollCall, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
    with call.receipts_in(request.headers) as delivery:
        response = await handler(request)
        delivery.confirm(response.status, response.headers)
    return response


async def _redeem(original: ClientRequest, step: RedeemStep, handler: ClientHandlerType) -> ClientResponse:
    """Post a redemption to the origin of the original request, with the same credentials."""
    request = type(original)(
        "POST",
        URL(f"{original.url.origin()}{step.path}", encoded=True),
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


async def _read_again(response: ClientResponse) -> tuple[bytes, str]:
    """The body, and its content encoding unless aiohttp has decoded it. The response can be read again.

    aiohttp inflates one layer before a middleware sees the body, in bounded steps that wait for the reader.

    Raises:
        TollMalformed: too large, or of an encoding that tolls do not have.
    """
    body, encoding = BoundedBody(), response.headers.get("content-encoding", "")
    inflated = response.content.total_compressed_bytes is not None
    whole = False
    try:
        check_encoding(encoding)
        body.check_declared_size(response.headers.get("content-length", ""))
        async for chunk in response.content.iter_any():
            body.add(chunk)
        whole = True
    finally:
        if not whole:
            response.close()
    raw = body.content()
    _replace_body(response, raw)
    return raw, "" if inflated else encoding


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


def _opened_response(response: ClientResponse, answer: Answer, pace: float) -> ClientResponse:
    """The response changed to the opened answer; headers of the 402 that do not describe its body are kept."""
    response.status = answer.status
    response.reason = phrases.get(answer.status, "")
    _replace_body(response, answer.body, opened_headers(response.headers.items(), answer))
    if is_event_stream(answer):
        response.content = _EventReader(answer.body, pace)
    return response


class _EventReader(StreamReader):
    """The content of an opened event stream. Whatever method reads it, the next event comes once the last one is read."""

    __slots__ = ("_count", "_events", "_next", "_pace")

    def __init__(self, body: bytes, pace: float) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(BaseProtocol(loop), max(len(body), 1), loop=loop)
        self._pace, self._count = pace, 0
        self._events = events_of(body)
        self._next = next(self._events, b"")
        self._feed()

    def _feed(self) -> None:
        self.begin_http_chunk_receiving()
        self.feed_data(self._next)
        self.end_http_chunk_receiving()
        self._next = next(self._events, b"")
        if not self._next:
            self.feed_eof()

    async def wait_eof(self) -> None:
        """Make all events ready to be read at once."""
        while not self.is_eof():
            self._feed()

    async def _wait(self, func_name: str) -> None:  # noqa: ARG002  called by every method that finds no data
        self._count += 1
        if self._pace or self._count % EVENTS_BEFORE_OTHERS == 0:
            await asyncio.sleep(self._pace)
        self._feed()
