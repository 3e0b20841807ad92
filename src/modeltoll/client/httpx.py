"""Transports for httpx and httpx2 that pay tolls.

    client = httpx.Client(transport=TollTransport(max_seconds=30))

The same classes work with both libraries, and import neither. httpx ignores a client's connection options (``verify``,
``http2``, proxies) if the client is given a transport; pass them to the inner transport,
``TollTransport(transport=httpx.HTTPTransport(http2=True))``.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import aclosing, closing
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import anyio
import anyio.to_thread
from anyio.lowlevel import RunVar

from modeltoll.client.forks import ForkSafeLock
from modeltoll.client.http_messages import BoundedBody
from modeltoll.client.httpx_exchange import HttpxExchange, library_of, settle_request, toll_call
from modeltoll.client.purse import Purse
from modeltoll.client.receipts import Settlement
from modeltoll.client.settling import AsyncSettler, Settler
from modeltoll.client.toll_call import TollCall
from modeltoll.client.toll_flow import POLL_SECONDS, ResendStep, SolveStep, WaitStep, may_be_toll
from modeltoll.records import Answer
from modeltoll.toll_records import Solution

if TYPE_CHECKING:
    import httpx
    import httpx2

__all__ = ["AsyncTollTransport", "TollTransport"]

_Base: Any = object  # type checkers take it for either library's transport
_NO_CONTENT = 204  # a connection is used again once the end of its response is read
_AFTER_FORK = (
    "the transport that TollTransport was given has sent requests before the process was forked, so that its connections "
    "are the parent's; make a client after the fork"
)
_LARGE = 1 << 20  # bodies above this many bytes are parsed in a thread


class TollTransport(_Base):  # type: ignore[misc]  # one class for two libraries
    """A synchronous transport that pays tolls, for any number of threads.

    A forked process opens connections of its own; an inner transport that was given must not have been used before.

    Responses other than tolls are passed on unchanged, streams as streams. Requests get the header ``Toll-Accept``,
    unless they have one. The client's timeouts apply to the network only; the purse limits the work.

    Args:
        max_seconds: the largest toll to pay, in expected seconds on one reference core; above it, ``TollTooDear``.
        purse: further limits; overrides ``max_seconds``.
        transport: the inner transport, which sends the requests; by default the library's ``HTTPTransport()``.

    Raises (from the client's calls):
        TollMalformed, TollTooDear, SolveStopped, SealBroken: the toll was not paid, or its answer cannot be opened.
    """

    def __init__(
        self,
        max_seconds: float = 30.0,
        *,
        purse: Purse | None = None,
        transport: httpx.BaseTransport | httpx2.BaseTransport | None = None,
    ) -> None:
        self.purse = purse or Purse(max_seconds)
        self._given = transport is not None
        self._inner: Any = transport
        self._library: Any = None
        self._used = self._belongs_to_parent = False
        self._lock = ForkSafeLock(self._leave_connections)
        self._settler = Settler(self.purse.receipts, self._post)

    def handle_request(self, request: httpx.Request) -> Any:
        """Send the request; if the response is a toll, pay it and return the opened answer."""
        if self._belongs_to_parent:
            raise RuntimeError(_AFTER_FORK)
        transport = self._inner if self._used else self._default_transport(request)
        call = toll_call(request, self.purse, self._settler.owner)
        response = self._send(transport, request, call)
        if not may_be_toll(response.status_code, response.headers):
            return response
        with closing(HttpxExchange(request, response, self._read(response), call)) as exchange:
            try:
                self._pay(exchange, transport)
            finally:
                self._library = library_of(request)
                self._settler.arm()
        return exchange.response

    def _pay(self, exchange: HttpxExchange, transport: Any) -> None:
        while (step := exchange.step) is not None:
            if isinstance(step, SolveStep):
                exchange.submit_result(step.run(None))
            elif isinstance(step, WaitStep):
                while not step.ready():
                    time.sleep(POLL_SECONDS)
                exchange.end_wait()
            else:
                request = exchange.request_of(step)
                call = exchange.call if isinstance(step, ResendStep) else None
                response = self._send(transport, request, call)
                read = step.reads(response.status_code, response.headers)
                exchange.submit_response(response, self._read(response) if read else None)

    def _send(self, transport: Any, request: httpx.Request, call: TollCall | None) -> httpx.Response:
        """Send a request, with receipts if it is of a call."""
        if call is None:
            response: httpx.Response = transport.handle_request(request)
            return response
        with call.receipts_in(request.headers) as delivery:
            response = transport.handle_request(request)
            delivery.confirm(response.status_code, response.headers)
        return response

    def _post(self, settlement: Settlement) -> int:
        response = self._inner.handle_request(settle_request(self._library, settlement))
        self._read(response) if response.status_code == _NO_CONTENT else response.close()
        status: int = response.status_code
        return status

    def _default_transport(self, request: httpx.Request) -> Any:
        with self._lock:  # the client may be shared by threads
            if self._inner is None:
                self._inner = library_of(request).HTTPTransport()
            self._used = True  # last, for other threads look at it without the lock
            return self._inner

    def _leave_connections(self) -> None:
        """In a forked process: the open connections are its parent's."""
        if self._used:
            self._left, self._belongs_to_parent = self._inner, self._given  # kept, so that nothing is closed
            self._inner, self._used = (self._inner, True) if self._given else (None, False)

    @staticmethod
    def _read(response: httpx.Response) -> bytes:
        body = BoundedBody()
        try:
            body.check_declared_size(response.headers.get("content-length", ""))
            for chunk in response.iter_raw():
                body.add(chunk)
        finally:
            response.close()
        return body.content()

    def close(self) -> None:
        """Post the receipts that are left, and close the inner transport."""
        self._settler.close()
        if self._inner is not None:
            self._inner.close()

    def __enter__(self) -> Self:
        if self._inner is not None:
            self._inner.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._settler.close()
        if self._inner is not None:
            self._inner.__exit__(kind, error, trace)


class AsyncTollTransport(_Base):  # type: ignore[misc]  # one class for two libraries
    """The same for ``AsyncClient``, with asyncio or trio; without ``transport`` in any number of event loops.

    Puzzles are solved in threads, at most as many at once as the machine has cores; cancelling the call stops the work.
    """

    def __init__(
        self,
        max_seconds: float = 30.0,
        *,
        purse: Purse | None = None,
        transport: httpx.AsyncBaseTransport | httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self.purse = purse or Purse(max_seconds)
        self._given = transport
        self._default: RunVar[Any] = RunVar("modeltoll's inner transport", None)
        self._limiter: RunVar[anyio.CapacityLimiter | None] = RunVar("modeltoll's workers", None)
        self._library: Any = None
        self._settler = AsyncSettler(self.purse.receipts, self._post)

    @property
    def _inner(self) -> Any:
        """The transport that was given, else that of the running event loop; None where there is none yet."""
        try:
            return self._default.get() if self._given is None else self._given
        except RuntimeError:  # no event loop is running
            return None

    @property
    def _workers(self) -> anyio.CapacityLimiter:
        """Of the running event loop."""
        if (limiter := self._limiter.get()) is None:
            limiter = anyio.CapacityLimiter(max(1, (os.cpu_count() or 1) // self.purse.cores))
            self._limiter.set(limiter)
        return limiter

    async def handle_async_request(self, request: httpx.Request) -> Any:
        """Send the request; if the response is a toll, pay it and return the opened answer."""
        if self._inner is None:
            self._default.set(library_of(request).AsyncHTTPTransport())
        call = toll_call(request, self.purse, self._settler.owner)
        response = await self._send(request, call)
        if not may_be_toll(response.status_code, response.headers):
            return response
        with closing(await self._exchange(request, response, call)) as exchange:
            try:
                await self._pay(exchange)
            finally:
                self._library = library_of(request)
                self._settler.arm()
        return exchange.response

    async def _pay(self, exchange: HttpxExchange) -> None:
        while (step := exchange.step) is not None:
            if isinstance(step, SolveStep):
                exchange.submit_result(await self._solve(step))
            elif isinstance(step, WaitStep):
                while not step.ready():  # noqa: ASYNC110  other threads end them
                    await anyio.sleep(POLL_SECONDS)
                exchange.end_wait()
            else:
                request = exchange.request_of(step)
                response = await self._send(request, exchange.call if isinstance(step, ResendStep) else None)
                read = step.reads(response.status_code, response.headers)
                exchange.submit_response(response, await self._read(response) if read else None)

    async def _send(self, request: httpx.Request, call: TollCall | None) -> httpx.Response:
        """Send a request, with receipts if it is of a call."""
        if call is None:
            response: httpx.Response = await self._inner.handle_async_request(request)
            return response
        with call.receipts_in(request.headers) as delivery:
            response = await self._inner.handle_async_request(request)
            delivery.confirm(response.status_code, response.headers)
        return response

    async def _post(self, settlement: Settlement) -> int:
        response = await self._inner.handle_async_request(settle_request(self._library, settlement))
        await (self._read(response) if response.status_code == _NO_CONTENT else response.aclose())
        status: int = response.status_code
        return status

    async def _exchange(self, request: httpx.Request, response: httpx.Response, call: TollCall) -> HttpxExchange:
        raw = await self._read(response)
        if len(raw) <= _LARGE:
            return HttpxExchange(request, response, raw, call)
        return await anyio.to_thread.run_sync(HttpxExchange, request, response, raw, call, limiter=self._workers)

    async def _solve(self, step: SolveStep) -> Answer | Solution:
        stop = threading.Event()
        try:
            return await anyio.to_thread.run_sync(step.run, stop.is_set, abandon_on_cancel=True, limiter=self._workers)
        finally:
            stop.set()

    @staticmethod
    async def _read(response: httpx.Response) -> bytes:
        body = BoundedBody()
        try:
            body.check_declared_size(response.headers.get("content-length", ""))
            async with aclosing(response.aiter_raw()) as chunks:  # type: ignore[type-var]  # a generator in both
                async for chunk in chunks:
                    body.add(chunk)
        finally:
            await response.aclose()
        return body.content()

    async def aclose(self) -> None:
        """Post the receipts that are left, and close the inner transport."""
        try:
            await self._settler.close()
        finally:
            if self._inner is not None:
                await self._inner.aclose()

    async def __aenter__(self) -> Self:
        if self._inner is not None:
            await self._inner.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._settler.close()
        finally:
            if self._inner is not None:
                await self._inner.__aexit__(kind, error, trace)
