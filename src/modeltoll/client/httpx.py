"""Transports for httpx and httpx2 that pay tolls without the caller noticing.

    client = httpx.Client(transport=TollTransport(max_seconds=30))

The same classes serve both libraries: which one is in use is seen from the request, so neither is imported here.
"""

from __future__ import annotations

import sys
import threading
from types import ModuleType
from typing import TYPE_CHECKING, Self

import anyio
import anyio.to_thread

from modeltoll.client.purse import Errand, Flow, Labour, Purse, Reply, toll_flow
from modeltoll.errors import TollMalformed
from modeltoll.records import Answer, Solution
from modeltoll.wire import MAX_TOLL_BYTES, STATUS

if TYPE_CHECKING:
    import httpx

    _Base = httpx.BaseTransport
    _AsyncBase = httpx.AsyncBaseTransport
else:
    _Base = _AsyncBase = object

__all__ = ["AsyncTollTransport", "TollTransport"]

_OF_THE_BODY = frozenset(("content-length", "content-type", "content-encoding", "transfer-encoding"))
_OF_THE_TOLL = frozenset(("www-authenticate", "cache-control"))


def _library(request: httpx.Request) -> ModuleType:
    """The library that made the request: httpx or httpx2."""
    return sys.modules[type(request).__module__.partition(".")[0]]


def _prepared(original: httpx.Request, errand: Errand) -> httpx.Request:
    """The request that an errand asks for: the original with more headers, or a redemption at the same origin."""
    if errand.path is None:
        for name, value in errand.headers:
            original.headers.setdefault(name, value)
        return original
    kept = {name: original.headers[name] for name in ("authorization", "x-api-key") if name in original.headers}
    url = original.url.copy_with(raw_path=errand.path.encode())
    request: httpx.Request = _library(original).Request(
        "POST", url, headers=kept | dict(errand.headers), content=errand.body, extensions=original.extensions
    )
    return request


def _rebuilt(original: httpx.Request, first: httpx.Response, answer: Answer) -> httpx.Response:
    """A response that carries the answer, with the other headers of the one that came first."""
    dropped = _OF_THE_BODY | (_OF_THE_TOLL if answer.status != STATUS else frozenset())
    headers = [(name, value) for name, value in first.headers.multi_items() if name.lower() not in dropped]
    response: httpx.Response = _library(original).Response(
        answer.status,
        headers=[*headers, ("content-type", answer.content_type)],
        content=answer.body,
        extensions={name: value for name, value in first.extensions.items() if name == "http_version"},
    )
    return response


class _Bounded:
    """Collects a body that must not grow beyond what a toll may take."""

    def __init__(self) -> None:
        self.body = bytearray()

    def add(self, chunk: bytes) -> None:
        self.body += chunk
        if len(self.body) > MAX_TOLL_BYTES:
            raise TollMalformed(f"the toll is larger than {MAX_TOLL_BYTES} bytes")


class _Walk:
    """One request's way through its flow: what the sync and the async driver share."""

    def __init__(self, request: httpx.Request, purse: Purse) -> None:
        self._request = request
        self._flow: Flow = toll_flow(purse)
        self._first: httpx.Response | None = None
        self.step: Errand | Labour = next(self._flow)

    def outgoing(self) -> httpx.Request:
        """The request that the present errand asks for."""
        assert isinstance(self.step, Errand)
        return _prepared(self._request, self.step)

    def must_read(self, response: httpx.Response) -> bool:
        """Whether the flow needs the response's body: where it may be a toll, or what was redeemed."""
        return self._first is not None or response.status_code == STATUS

    def arrived(self, response: httpx.Response, body: bytes | None) -> httpx.Response | None:
        """Take in a response, and its body if it was read; the final response where the flow has ended."""
        content_type = response.headers.get("content-type", "")
        reply = Reply(response.status_code, content_type, body or b"")
        if self._first is None:
            self._first = (
                response
                if body is None
                else _rebuilt(self._request, response, Answer(reply.status, content_type, body))
            )
        return self.advance(reply)

    def advance(self, got: Reply | Solution) -> httpx.Response | None:
        """Hand the flow what it asked for; the final response where it has ended."""
        try:
            self.step = self._flow.send(got)
        except StopIteration as end:
            assert self._first is not None
            return self._first if end.value is None else _rebuilt(self._request, self._first, end.value)
        return None


class TollTransport(_Base):
    """A synchronous transport that pays tolls.

    Args:
        max_seconds: the dearest toll to pay, in expected seconds on one core (``TollTooDear`` above it).
        purse: other limits; overrides ``max_seconds``.
        transport: what sends requests; by default the library's own ``HTTPTransport()``.

    Raises (from the client's calls):
        TollMalformed, TollTooDear, SolveStopped, SealBroken: the toll was not paid.
    """

    def __init__(
        self, max_seconds: float = 30.0, *, purse: Purse | None = None, transport: httpx.BaseTransport | None = None
    ) -> None:
        self.purse = purse or Purse(max_seconds)
        self._inner = transport
        self._lock = threading.Lock()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send, pay, open."""
        transport, walk = self._transport(request), _Walk(request, self.purse)
        done = None
        while done is None:
            if isinstance(walk.step, Labour):
                done = walk.advance(walk.step.run(None))
                continue
            response = transport.handle_request(walk.outgoing())
            done = walk.arrived(response, self._read(response) if walk.must_read(response) else None)
        return done

    def _transport(self, request: httpx.Request) -> httpx.BaseTransport:
        with self._lock:
            if self._inner is None:
                self._inner = _library(request).HTTPTransport()
            return self._inner

    @staticmethod
    def _read(response: httpx.Response) -> bytes:
        bounded = _Bounded()
        try:
            for chunk in response.iter_bytes():
                bounded.add(chunk)
        finally:
            response.close()
        return bytes(bounded.body)

    def close(self) -> None:
        """Close the transport inside."""
        if self._inner is not None:
            self._inner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class AsyncTollTransport(_AsyncBase):
    """The same for ``AsyncClient``. Work is done in a thread beside the event loop, and stops when the call is cancelled."""

    def __init__(
        self,
        max_seconds: float = 30.0,
        *,
        purse: Purse | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.purse = purse or Purse(max_seconds)
        self._inner = transport

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send, pay, open."""
        if self._inner is None:
            self._inner = _library(request).AsyncHTTPTransport()
        walk = _Walk(request, self.purse)
        done = None
        while done is None:
            if isinstance(walk.step, Labour):
                done = walk.advance(await self._labour(walk.step))
                continue
            response = await self._inner.handle_async_request(walk.outgoing())
            done = walk.arrived(response, await self._read(response) if walk.must_read(response) else None)
        return done

    @staticmethod
    async def _labour(labour: Labour) -> Solution:
        stop = threading.Event()
        try:
            return await anyio.to_thread.run_sync(labour.run, stop.is_set, abandon_on_cancel=True)
        finally:
            stop.set()

    @staticmethod
    async def _read(response: httpx.Response) -> bytes:
        bounded = _Bounded()
        try:
            async for chunk in response.aiter_bytes():
                bounded.add(chunk)
        finally:
            await response.aclose()
        return bytes(bounded.body)

    async def aclose(self) -> None:
        """Close the transport inside."""
        if self._inner is not None:
            await self._inner.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()
