"""One call of ``grpc`` and its tolls, in the thread that waits for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import grpc

from modeltoll.client.grpc_calls import FailedCall, OpenedCall, failed_call
from modeltoll.client.grpc_exchange import Attempt, GrpcExchange, Reply
from modeltoll.client.grpc_routes import Route
from modeltoll.client.receipts import Account
from modeltoll.client.toll_flow import POLL_SECONDS, ProbeStep, RedeemStep, ResendStep, SolveStep, WaitStep
from modeltoll.client.toll_session import TollSession
from modeltoll.errors import SolveStopped, TollError

__all__ = ["BlockingPayment"]

_NO_CONTENT = 204


class BlockingPayment:
    """One call: its RPCs and the work for them. ``arm`` is called when receipts may have been added."""

    def __init__(
        self, exchange: GrpcExchange, route: Route, request: Any, arm: Callable[[Account, Route], None]
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
            late, cancelled = self._exchange.is_late(), self._stopped.is_set()
            return failed_call(FailedCall, error, late=late, cancelled=cancelled)
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
