"""The driver of ``grpc``: an interceptor that pays tolls, in the calling thread, or behind a future in threads of its own."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeAlias

import grpc

from modeltoll.client.daemon_workers import DaemonWorkers
from modeltoll.client.grpc_calls import FailedCall, OpenedCall, failed_call
from modeltoll.client.grpc_exchange import (
    Attempt,
    GrpcExchange,
    Reply,
    is_priced,
    new_origin,
    settle_details,
    settle_status,
)
from modeltoll.client.grpc_future import TollFuture
from modeltoll.client.purse import Purse
from modeltoll.client.receipts import Account, Settlement
from modeltoll.client.settling import Settler
from modeltoll.client.toll_flow import POLL_SECONDS, ProbeStep, RedeemStep, ResendStep, SolveStep, WaitStep
from modeltoll.client.toll_session import TollSession
from modeltoll.errors import SolveStopped, TollError

__all__ = ["TollInterceptor"]

_Continuation: TypeAlias = Callable[[Any, Any], Any]
_MAX_ROUTES = 1_000  # accounts whose way to the gateway is kept
_NO_CONTENT = 204
_LATE = "the deadline of the call passed while its toll was being paid; set a longer timeout"


@dataclass(frozen=True, slots=True)
class _Route:
    """A way to post an account's receipts: that of its last toll. ``empty``: makes a request without content."""

    continuation: _Continuation
    details: Any
    empty: Callable[[], Any]


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
        self._routes: dict[Account, _Route] = {}
        self._workers = DaemonWorkers(max(1, (os.cpu_count() or 1) // self.purse.cores))

    def intercept_unary_unary(self, continuation: _Continuation, client_call_details: Any, request: Any) -> Any:
        """Send the request; if the response is a toll, pay it and return a call with the opened answer."""
        if not is_priced(client_call_details.method):
            return continuation(client_call_details, request)
        exchange = GrpcExchange(self.purse, self._origin, client_call_details, self._settler.owner)
        route = _Route(continuation, client_call_details, type(request))
        payment = _Payment(exchange, route, request, self._arm)
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

    def _arm(self, account: Account, route: _Route) -> None:
        """Plan a post of receipts that no request returns."""
        if len(self._routes) >= _MAX_ROUTES:
            self._routes.clear()
        self._routes[account] = route
        self._settler.arm()

    def _post(self, settlement: Settlement) -> int:
        route = self._routes.get(settlement.account)
        if route is None:
            return 0
        for details in settle_details(settlement, route.details):
            status = settle_status(route.continuation(details, route.empty()).code())
            if status != _NO_CONTENT:
                return status
        return _NO_CONTENT


class _Payment:
    """One call: its RPCs and the work for them."""

    def __init__(
        self, exchange: GrpcExchange, route: _Route, request: Any, arm: Callable[[Account, _Route], None]
    ) -> None:
        self._exchange = exchange
        self._route = route
        self._request = request
        self._arm = arm
        self._stopped = threading.Event()
        self._current: Any = None  # the RPC in progress

    def send(self, step: RedeemStep | ResendStep | None = None) -> tuple[Attempt, Any]:
        """Start the first RPC, or that of a step."""
        with self._exchange.attempt(step) as attempt:
            self._current = self._route.continuation(attempt.details, self._request)
        if self._stopped.is_set():
            self._current.cancel()
        return attempt, self._current

    def reply(self, attempt: Attempt, call: Any) -> Reply:
        """How an RPC ended, once it has."""
        reply = None
        try:
            code = call.code()
            response = call.result() if code is grpc.StatusCode.OK else None
            reply = Reply.of(code, response, call.trailing_metadata())
            return reply
        finally:
            attempt.end(reply)

    def outcome(self, reply: Reply, call: Any) -> Any:
        """Pay the toll in the first reply: a call that has ended. It is ``call`` itself if there was no toll."""
        if reply.toll is None:
            return call
        try:
            return self._pay(reply, call)
        except TollError as error:
            late = self._exchange.is_late()
            stopped = grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED
            if isinstance(error, SolveStopped) and late:
                error = SolveStopped(_LATE)
            return failed_call(FailedCall, error, stopped if late or self._stopped.is_set() else None)
        finally:
            self._arm(self._exchange.call.account, self._route)

    def stop(self) -> None:
        """Stop the work, and the RPC in progress."""
        self._stopped.set()
        self._current.cancel()

    def _pay(self, reply: Reply, call: Any) -> Any:
        with closing(TollSession(self._exchange.call, reply.toll or b"")) as session:
            while (step := session.step) is not None:
                if isinstance(step, SolveStep):
                    session.submit_result(step.run(self._is_stopped))
                elif isinstance(step, WaitStep):
                    self._wait(step)
                    session.end_wait()
                elif isinstance(step, ProbeStep):  # a proof returns by the way of the request
                    session.submit_response(_NO_CONTENT)
                else:
                    attempt, call = self.send(step)
                    reply = self.reply(attempt, call)
                    session.submit_response(reply.status, reply.toll or b"")
            return call if session.answer is None else OpenedCall(reply.opened(session.answer), call)

    def _wait(self, step: WaitStep) -> None:
        while not step.ready():
            if self._is_stopped():
                raise SolveStopped("the call was cancelled")
            time.sleep(POLL_SECONDS)

    def _is_stopped(self) -> bool:
        return self._stopped.is_set() or self._exchange.is_late()
