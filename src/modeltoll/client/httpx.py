"""Transports for httpx and httpx2 that pay tolls without the caller noticing.

    client = httpx.Client(transport=TollTransport(max_seconds=30))

The same classes serve both libraries, and import neither. A client that is given a transport leaves its own options
for connections (``verify``, ``http2``, proxies) aside: put them into the transport inside,
``TollTransport(transport=httpx.HTTPTransport(http2=True))``.
"""

from __future__ import annotations

import os
import threading
from contextlib import aclosing
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import anyio
import anyio.to_thread

from modeltoll.client.http_messages import BoundedBody
from modeltoll.client.httpx_exchange import HttpxExchange, library_of, with_accept_header
from modeltoll.client.purse import Purse
from modeltoll.client.toll_flow import SolveStep, is_final_status, may_be_toll
from modeltoll.records import Answer, Solution

if TYPE_CHECKING:
    import httpx
    import httpx2

__all__ = ["AsyncTollTransport", "TollTransport"]

_Base: Any = object  # to a type checker both libraries' transports, at run time neither
_LARGE = 1 << 20  # bodies above this many bytes are parsed beside the event loop


class TollTransport(_Base):  # type: ignore[misc]  # one class for two libraries
    """A synchronous transport that pays tolls.

    What is no toll comes through as the server sent it, streamed where it was streamed; the request carries one more
    header, ``Toll-Accept``, unless it has one already. A request that is paid for may wait longer than the client's
    time-outs, which are for the network; the wait has its own limits in the purse.

    Args:
        max_seconds: the dearest toll to pay, in expected seconds on one core (``TollTooDear`` above it).
        purse: other limits; overrides ``max_seconds``.
        transport: what sends requests; by default the library's own ``HTTPTransport()``.

    Raises (from the client's calls):
        TollMalformed, TollTooDear, SolveStopped, SealBroken: the toll was not paid, or bought nothing.
    """

    def __init__(
        self,
        max_seconds: float = 30.0,
        *,
        purse: Purse | None = None,
        transport: httpx.BaseTransport | httpx2.BaseTransport | None = None,
    ) -> None:
        self.purse = purse or Purse(max_seconds)
        self._inner: Any = transport
        self._lock = threading.Lock()

    def handle_request(self, request: httpx.Request) -> Any:
        """Send, pay, open."""
        transport = self._inner or self._made(request)
        response = transport.handle_request(with_accept_header(request, self.purse))
        if not may_be_toll(response.status_code, response.headers):
            return response
        walk = HttpxExchange(request, response, self._read(response), self.purse)
        while (step := walk.step) is not None:
            if isinstance(step, SolveStep):
                walk.earned(step.run(None))
                continue
            response = transport.handle_request(walk.redeeming(step))
            walk.redeemed(response, b"" if is_final_status(response.status_code) else self._read(response))
        return walk.response

    def _made(self, request: httpx.Request) -> Any:
        with self._lock:  # threads may come at once
            if self._inner is None:
                self._inner = library_of(request).HTTPTransport()
            return self._inner

    @staticmethod
    def _read(response: httpx.Response) -> bytes:
        body = BoundedBody()
        try:
            body.expect(response.headers.get("content-length", ""))
            for chunk in response.iter_raw():
                body.add(chunk)
        finally:
            response.close()
        return body.joined()

    def close(self) -> None:
        """Close the transport inside."""
        if self._inner is not None:
            self._inner.close()

    def __enter__(self) -> Self:
        if self._inner is not None:
            self._inner.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._inner is not None:
            self._inner.__exit__(kind, error, trace)


class AsyncTollTransport(_Base):  # type: ignore[misc]  # one class for two libraries
    """The same for ``AsyncClient``, under asyncio and trio.

    Work is done in threads beside the event loop, no more at once than the machine has cores, and stops when the call
    is cancelled.
    """

    def __init__(
        self,
        max_seconds: float = 30.0,
        *,
        purse: Purse | None = None,
        transport: httpx.AsyncBaseTransport | httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self.purse = purse or Purse(max_seconds)
        self._inner: Any = transport
        self._benches = anyio.CapacityLimiter(max(1, (os.cpu_count() or 1) // self.purse.cores))

    async def handle_async_request(self, request: httpx.Request) -> Any:
        """Send, pay, open."""
        if self._inner is None:
            self._inner = library_of(request).AsyncHTTPTransport()
        transport = self._inner
        response = await transport.handle_async_request(with_accept_header(request, self.purse))
        if not may_be_toll(response.status_code, response.headers):
            return response
        walk = await self._walk(request, response)
        while (step := walk.step) is not None:
            if isinstance(step, SolveStep):
                walk.earned(await self._labour(step))
                continue
            response = await transport.handle_async_request(walk.redeeming(step))
            walk.redeemed(response, b"" if is_final_status(response.status_code) else await self._read(response))
        return walk.response

    async def _walk(self, request: httpx.Request, response: httpx.Response) -> HttpxExchange:
        raw = await self._read(response)
        if len(raw) <= _LARGE:
            return HttpxExchange(request, response, raw, self.purse)
        return await anyio.to_thread.run_sync(HttpxExchange, request, response, raw, self.purse, limiter=self._benches)

    async def _labour(self, labour: SolveStep) -> Answer | Solution:
        stop = threading.Event()
        try:
            return await anyio.to_thread.run_sync(
                labour.run, stop.is_set, abandon_on_cancel=True, limiter=self._benches
            )
        finally:
            stop.set()

    @staticmethod
    async def _read(response: httpx.Response) -> bytes:
        body = BoundedBody()
        try:
            body.expect(response.headers.get("content-length", ""))
            async with aclosing(response.aiter_raw()) as chunks:  # type: ignore[type-var]  # a generator in both
                async for chunk in chunks:
                    body.add(chunk)
        finally:
            await response.aclose()
        return body.joined()

    async def aclose(self) -> None:
        """Close the transport inside."""
        if self._inner is not None:
            await self._inner.aclose()

    async def __aenter__(self) -> Self:
        if self._inner is not None:
            await self._inner.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._inner is not None:
            await self._inner.__aexit__(kind, error, trace)
