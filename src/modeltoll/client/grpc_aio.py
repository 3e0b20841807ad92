"""The driver of ``grpc.aio``: an interceptor that pays tolls, in threads."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeAlias

import grpc
import grpc.aio

from modeltoll.client.grpc_calls import FailedAioCall, failed_call
from modeltoll.client.grpc_exchange import (
    Attempt,
    GrpcExchange,
    Reply,
    is_priced,
    new_origin,
    settle_details,
    settle_status,
)
from modeltoll.client.purse import Purse
from modeltoll.client.receipts import Account, Settlement
from modeltoll.client.settling import AsyncSettler
from modeltoll.client.toll_flow import POLL_SECONDS, ProbeStep, RedeemStep, ResendStep, SolveStep, WaitStep
from modeltoll.client.toll_session import TollSession
from modeltoll.errors import SolveStopped, TollError
from modeltoll.records import Answer
from modeltoll.toll_records import Solution

__all__ = ["AioTollInterceptor"]

_Continuation: TypeAlias = Callable[[Any, Any], Awaitable[Any]]
_MAX_ROUTES = 1_000  # accounts whose way to the gateway is kept
_NO_CONTENT = 204
_LATE = "the deadline of the call passed while its toll was being paid; set a longer timeout"


@dataclass(frozen=True, slots=True)
class _Route:
    """A way to post an account's receipts: that of its last toll. ``empty``: makes a request without content."""

    continuation: _Continuation
    details: Any
    empty: Callable[[], Any]


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
        self._routes: dict[Account, _Route] = {}
        workers = max(1, (os.cpu_count() or 1) // self.purse.cores)
        self._workers = ThreadPoolExecutor(workers, thread_name_prefix="modeltoll")

    async def intercept_unary_unary(self, continuation: _Continuation, client_call_details: Any, request: Any) -> Any:
        """Send the request; if the response is a toll, pay it and return a call with the opened answer."""
        if not is_priced(client_call_details.method):
            return await continuation(client_call_details, request)
        exchange = GrpcExchange(self.purse, self._origin, client_call_details, self._settler.owner)
        payment = _Payment(exchange, continuation, request, self._workers)
        call, reply = await payment.send()
        if reply.toll is None:
            return call
        try:
            return await payment.pay(call, reply)
        except TollError as error:
            late = isinstance(error, SolveStopped) and exchange.is_late()
            stopped = grpc.StatusCode.DEADLINE_EXCEEDED if late else None
            raise failed_call(FailedAioCall, SolveStopped(_LATE) if late else error, stopped) from None
        finally:
            if len(self._routes) >= _MAX_ROUTES:
                self._routes.clear()
            self._routes[exchange.call.account] = _Route(continuation, client_call_details, type(request))
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
        route = self._routes.get(settlement.account)
        if route is None:
            return 0
        for details in settle_details(settlement, route.details):
            call = await route.continuation(details, route.empty())
            status = settle_status(await call.code())
            if status != _NO_CONTENT:
                return status
        return _NO_CONTENT


class _Payment:
    """One call: its RPCs and the work for them."""

    def __init__(
        self, exchange: GrpcExchange, continuation: _Continuation, request: Any, workers: ThreadPoolExecutor
    ) -> None:
        self._exchange = exchange
        self._continuation = continuation
        self._request = request
        self._workers = workers

    async def send(self, step: RedeemStep | ResendStep | None = None) -> tuple[Any, Reply]:
        """Carry out the first RPC, or that of a step."""
        with self._exchange.attempt(step) as attempt:
            call = await self._continuation(attempt.details, self._request)
            try:
                return call, await _reply(attempt, call)
            except asyncio.CancelledError:
                call.cancel()
                raise

    async def pay(self, call: Any, reply: Reply) -> Any:
        """Pay the toll in a reply: the call with the opened answer, or the last one if it is the answer."""
        toll_call = self._exchange.call
        with closing(await self._run(lambda: TollSession(toll_call, reply.toll or b""))) as session:
            while (step := session.step) is not None:
                if isinstance(step, SolveStep):
                    session.submit_result(await self._solve(step))
                elif isinstance(step, WaitStep):
                    await self._wait(step)
                    session.end_wait()
                elif isinstance(step, ProbeStep):  # a proof returns by the way of the request
                    session.submit_response(_NO_CONTENT)
                else:
                    call, reply = await self.send(step)
                    session.submit_response(reply.status, reply.toll or b"")
            return call if session.answer is None else _OpenedCall(reply.opened(session.answer), call)

    async def _run(self, function: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._workers, function)

    async def _solve(self, step: SolveStep) -> Answer | Solution:
        stop = threading.Event()
        try:
            result: Answer | Solution = await self._run(
                lambda: step.run(lambda: stop.is_set() or self._exchange.is_late())
            )
            return result
        finally:
            stop.set()

    async def _wait(self, step: WaitStep) -> None:
        while not step.ready():
            if self._exchange.is_late():
                raise SolveStopped(_LATE)
            await asyncio.sleep(POLL_SECONDS)


async def _reply(attempt: Attempt, call: Any) -> Reply:
    """How an RPC ended, once it has."""
    reply = None
    try:
        code = await call.code()
        response = await call if code is grpc.StatusCode.OK else None
        reply = Reply.of(code, response, await call.trailing_metadata())
        return reply
    finally:
        attempt.end(reply)


class _OpenedCall(grpc.aio.UnaryUnaryCall):  # type: ignore[misc]
    """A call whose seal was opened: the sealed message, and the rest of the call that brought the seal."""

    def __init__(self, response: Any, call: Any) -> None:
        self._response = response
        self._call = call

    def __await__(self) -> Generator[Any, None, Any]:
        return self._message().__await__()

    async def _message(self) -> Any:
        return self._response

    def cancelled(self) -> bool:
        return False

    def done(self) -> bool:
        return True

    def time_remaining(self) -> float | None:
        remaining: float | None = self._call.time_remaining()
        return remaining

    def cancel(self) -> bool:
        return False

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        callback(self)

    async def initial_metadata(self) -> Any:
        return await self._call.initial_metadata()

    async def trailing_metadata(self) -> Any:
        return await self._call.trailing_metadata()

    async def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.OK

    async def details(self) -> str:
        return ""

    async def debug_error_string(self) -> str:
        return ""

    async def wait_for_connection(self) -> None:
        await self._call.wait_for_connection()
