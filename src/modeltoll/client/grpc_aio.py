"""One call of ``grpc.aio`` and its tolls, which are paid in threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any, TypeAlias

import grpc
import grpc.aio

from modeltoll.client.grpc_calls import FailedAioCall, failed_call
from modeltoll.client.grpc_exchange import Attempt, GrpcExchange, Reply
from modeltoll.client.toll_flow import POLL_SECONDS, ProbeStep, RedeemStep, ResendStep, SolveStep, WaitStep
from modeltoll.client.toll_session import TollSession
from modeltoll.errors import SolveStopped, TollError
from modeltoll.records import Answer
from modeltoll.toll_records import Solution

__all__ = ["AioPayment"]

_Continuation: TypeAlias = Callable[[Any, Any], Awaitable[Any]]
_NO_CONTENT = 204


class AioPayment:
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

    async def outcome(self, call: Any, reply: Reply) -> Any:
        """Pay the toll in the first reply: a call that has ended. It is ``call`` itself if there was no toll."""
        try:
            return await self._pay(call, reply)
        except TollError as error:
            raise failed_call(FailedAioCall, error, late=self._exchange.is_late()) from None

    async def _pay(self, call: Any, reply: Reply) -> Any:
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
                raise SolveStopped("the call is late")
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
