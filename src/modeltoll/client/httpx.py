"""Transports for httpx and httpx2 that pay tolls.

    client = httpx.Client(transport=TollTransport(max_seconds=30))

The same classes work with both libraries, and import neither. httpx ignores a client's connection options (``verify``,
``http2``, proxies) if the client is given a transport; pass them to the inner transport,
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

_Base: Any = object  # type checkers take it for either library's transport
_LARGE = 1 << 20  # bodies above this many bytes are parsed in a thread


class TollTransport(_Base):  # type: ignore[misc]  # one class for two libraries
    """A synchronous transport that pays tolls.

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
        self._inner: Any = transport
        self._lock = threading.Lock()

    def handle_request(self, request: httpx.Request) -> Any:
        """Send the request; if the response is a toll, pay it and return the opened answer."""
        transport = self._inner or self._default_transport(request)
        response = transport.handle_request(with_accept_header(request, self.purse))
        if not may_be_toll(response.status_code, response.headers):
            return response
        exchange = HttpxExchange(request, response, self._read(response), self.purse)
        while (step := exchange.step) is not None:
            if isinstance(step, SolveStep):
                exchange.submit_result(step.run(None))
                continue
            response = transport.handle_request(exchange.redeem_request(step))
            exchange.submit_redemption(response, b"" if is_final_status(response.status_code) else self._read(response))
        return exchange.response

    def _default_transport(self, request: httpx.Request) -> Any:
        with self._lock:  # the client may be shared by threads
            if self._inner is None:
                self._inner = library_of(request).HTTPTransport()
            return self._inner

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
        """Close the inner transport."""
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
    """The same for ``AsyncClient``, with asyncio or trio.

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
        self._inner: Any = transport
        self._workers = anyio.CapacityLimiter(max(1, (os.cpu_count() or 1) // self.purse.cores))

    async def handle_async_request(self, request: httpx.Request) -> Any:
        """Send the request; if the response is a toll, pay it and return the opened answer."""
        if self._inner is None:
            self._inner = library_of(request).AsyncHTTPTransport()
        transport = self._inner
        response = await transport.handle_async_request(with_accept_header(request, self.purse))
        if not may_be_toll(response.status_code, response.headers):
            return response
        exchange = await self._exchange(request, response)
        while (step := exchange.step) is not None:
            if isinstance(step, SolveStep):
                exchange.submit_result(await self._solve(step))
                continue
            response = await transport.handle_async_request(exchange.redeem_request(step))
            exchange.submit_redemption(
                response, b"" if is_final_status(response.status_code) else await self._read(response)
            )
        return exchange.response

    async def _exchange(self, request: httpx.Request, response: httpx.Response) -> HttpxExchange:
        raw = await self._read(response)
        if len(raw) <= _LARGE:
            return HttpxExchange(request, response, raw, self.purse)
        return await anyio.to_thread.run_sync(HttpxExchange, request, response, raw, self.purse, limiter=self._workers)

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
        """Close the inner transport."""
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
