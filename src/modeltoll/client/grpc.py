"""Interceptors for grpc and grpc.aio that pay the tolls of the Open Inference Protocol's ``ModelInfer``.

    stub = GRPCInferenceServiceStub(grpc.intercept_channel(channel, TollInterceptor(max_seconds=30)))

They work with the messages of any stub, among them those of tritonclient.grpc and of kserve. For clients that make their
channel themselves there is ``pay_tolls``. Needs the extra ``grpc``.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self
from weakref import ref

import grpc
import grpc.aio

from modeltoll.client.daemon_workers import DaemonWorkers
from modeltoll.client.grpc_aio import AioPayment
from modeltoll.client.grpc_blocking import BlockingPayment
from modeltoll.client.grpc_exchange import GrpcExchange, is_priced, new_origin
from modeltoll.client.grpc_future import TollFuture
from modeltoll.client.grpc_routes import NO_ROUTE, POSTED, Route, Routes, settle_status
from modeltoll.client.purse import Purse
from modeltoll.client.receipts import Account, Settlement
from modeltoll.client.settling import AsyncSettler, Settler

__all__ = ["AioTollInterceptor", "TollInterceptor", "pay_tolls"]


def _workers(purse: Purse) -> int:
    """How many solvers may run at once."""
    return max(1, (os.cpu_count() or 1) // purse.cores)


class TollInterceptor(grpc.UnaryUnaryClientInterceptor):  # type: ignore[misc]  # grpc ships no types
    """An interceptor that pays tolls, for one channel and any number of threads.

        stub = GRPCInferenceServiceStub(grpc.intercept_channel(channel, TollInterceptor(max_seconds=30)))

    ``ModelInfer`` announces the purse; every other call, every stream and every response that is no toll pass unchanged.
    Direct calls, ``with_call`` and ``future`` work. Futures pay in threads, at most as many at once as the machine has
    cores; cancelling stops the work. A call's timeout includes the work.

    Args:
        max_seconds: the largest toll to pay, in expected seconds on one reference core; above it, ``TollTooDear``.
        purse: further limits; overrides ``max_seconds``.

    Raises (from the stub's calls):
        TollMalformed, TollTooDear, SolveStopped, SealBroken: the toll was not paid, or its answer cannot be opened. Each
        is a ``grpc.RpcError``, too.
    """

    def __init__(self, max_seconds: float = 30.0, *, purse: Purse | None = None) -> None:
        self.purse = purse or Purse(max_seconds)
        self._origin = new_origin()
        self._settler = Settler(self.purse.receipts, self._post)
        self._routes = Routes()
        self._workers = DaemonWorkers(_workers(self.purse))

    def intercept_unary_unary(
        self, continuation: Callable[[Any, Any], Any], client_call_details: Any, request: Any
    ) -> Any:
        """Send the request; if the response is a toll, pay it and return a call with the opened answer."""
        if not is_priced(client_call_details.method):
            return continuation(client_call_details, request)
        exchange = GrpcExchange(self.purse, self._origin, client_call_details, self._settler.owner)
        route = Route(continuation, client_call_details, type(request))
        payment = BlockingPayment(exchange, route, request, self._arm)
        attempt, call = payment.send()
        return TollFuture(payment, attempt, call, self._workers.submit)

    def close(self) -> None:
        """Post the receipts that are left. Call it before the channel is closed; the interceptor may be used again."""
        self._settler.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _arm(self, account: Account, route: Route) -> None:
        """Plan a post of receipts that no request returns."""
        self._routes.keep(account, route)
        self._settler.arm()

    def _post(self, settlement: Settlement) -> int:
        status = NO_ROUTE
        for route, details in self._routes.posts(settlement):
            status = settle_status(route.continuation(details, route.empty()).code())
            if status != POSTED:
                break
        return status


class AioTollInterceptor(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc]  # grpc ships no types
    """An interceptor that pays tolls, for one channel of ``grpc.aio``.

        channel = grpc.aio.insecure_channel(target, interceptors=[AioTollInterceptor(max_seconds=30)])

    ``ModelInfer`` announces the purse; every other call, every stream and every response that is no toll pass unchanged.
    Puzzles are solved in threads, at most as many at once as the machine has cores; cancelling the call stops the work.
    A call's timeout includes the work.

    Args:
        max_seconds: the largest toll to pay, in expected seconds on one reference core; above it, ``TollTooDear``.
        purse: further limits; overrides ``max_seconds``.

    Raises (from the stub's calls):
        TollMalformed, TollTooDear, SolveStopped, SealBroken: the toll was not paid, or its answer cannot be opened. Each
        is an ``AioRpcError``, too.
    """

    def __init__(self, max_seconds: float = 30.0, *, purse: Purse | None = None) -> None:
        self.purse = purse or Purse(max_seconds)
        self._origin = new_origin()
        self._settler = AsyncSettler(self.purse.receipts, self._post)
        self._routes = Routes()
        self._workers = ThreadPoolExecutor(_workers(self.purse), thread_name_prefix="modeltoll")

    async def intercept_unary_unary(
        self, continuation: Callable[[Any, Any], Awaitable[Any]], client_call_details: Any, request: Any
    ) -> Any:
        """Send the request; if the response is a toll, pay it and return a call with the opened answer."""
        if not is_priced(client_call_details.method):
            return await continuation(client_call_details, request)
        exchange = GrpcExchange(self.purse, self._origin, client_call_details, self._settler.owner)
        payment = AioPayment(exchange, continuation, request, self._workers)
        call, reply = await payment.send()
        if reply.toll is None:
            return call
        try:
            return await payment.outcome(call, reply)
        finally:
            self._routes.keep(exchange.call.account, Route(continuation, client_call_details, type(request)))
            self._settler.arm()

    async def close(self) -> None:
        """Post the receipts that are left. Call it before the channel is closed; the interceptor may be used again."""
        await self._settler.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _post(self, settlement: Settlement) -> int:
        status = NO_ROUTE
        for route, details in self._routes.posts(settlement):
            call = await route.continuation(details, route.empty())
            status = settle_status(await call.code())
            if status != POSTED:
                break
        return status


def pay_tolls(client: Any, max_seconds: float = 30.0, *, purse: Purse | None = None) -> None:
    """Let a client pay tolls that makes its channel itself, before its first call.

    For ``InferenceServerClient`` of tritonclient.grpc and of tritonclient.grpc.aio, ``InferenceGRPCClient`` of kserve, and
    others that keep a channel and a generated stub as ``_channel`` and ``_client_stub``. ``client.close()`` then posts the
    receipts that are left, before it closes the channel.

    Args:
        client: the client.
        max_seconds: see ``TollInterceptor``.
        purse: see ``TollInterceptor``.

    Raises:
        TypeError: the client is none of these.
    """
    channel, stub = getattr(client, "_channel", None), getattr(client, "_client_stub", None)
    if stub is not None and isinstance(channel, grpc.Channel):
        blocking = TollInterceptor(max_seconds, purse=purse)
        client._client_stub = type(stub)(grpc.intercept_channel(channel, blocking))  # noqa: SLF001  it takes no interceptor
        _settle_before_close(client, blocking.close)
        return
    interceptors = getattr(channel, "_unary_unary_interceptors", None)
    if stub is not None and isinstance(channel, grpc.aio.Channel) and isinstance(interceptors, list):
        asynchronous = AioTollInterceptor(max_seconds, purse=purse)
        interceptors.append(asynchronous)  # grpc.aio takes interceptors only with a new channel
        _settle_before_async_close(client, asynchronous.close)
        return
    raise TypeError(
        f"{type(client).__name__} keeps no gRPC channel that is known here; give the interceptor to its channel instead"
    )


def _settle_before_close(client: Any, settle: Callable[[], Any]) -> None:
    """Let ``client.close()`` post receipts first, without a reference from the client to itself."""
    kept = ref(client)

    def close() -> Any:
        settle()
        closing = kept()
        return None if closing is None else type(closing).close(closing)

    client.close = close


def _settle_before_async_close(client: Any, settle: Callable[[], Awaitable[None]]) -> None:
    """The same where ``close`` is a coroutine function."""
    kept = ref(client)

    async def close() -> Any:
        await settle()
        closing = kept()
        return None if closing is None else await type(closing).close(closing)

    client.close = close
