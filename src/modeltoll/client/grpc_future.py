"""The future of a call whose toll is paid in the background."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol

import grpc

from modeltoll.client.grpc_calls import CancelledCall, FailedCall, RaisingCall, failed_call
from modeltoll.client.grpc_exchange import Attempt, Reply
from modeltoll.errors import SolveStopped

__all__ = ["Payment", "TollFuture"]


class Payment(Protocol):
    """One call that may meet tolls."""

    def reply(self, attempt: Attempt, call: Any) -> Reply: ...

    def outcome(self, reply: Reply, call: Any) -> Any: ...

    def stop(self) -> None: ...


class TollFuture(grpc.Call, grpc.Future):  # type: ignore[misc]  # grpc ships no types
    """A call in progress, which is done when its answer is opened. Its status and metadata are those of the last RPC.

    The toll is paid in a thread that ``submit`` gives. But if the first RPC has ended when its future is made, as always
    for a blocking call, then whoever waits for the result first pays in their own thread.

    Args:
        payment: what pays.
        attempt: the first RPC.
        call: the same as a future of grpc.
        submit: runs a function in another thread.
    """

    def __init__(
        self, payment: Payment, attempt: Attempt, call: Any, submit: Callable[[Callable[[], None]], None]
    ) -> None:
        self._payment = payment
        self._attempt = attempt
        self._first = call
        self._submit = submit
        self._changed = threading.Condition()
        self._outcome: Any = None
        self._work: Callable[[], None] | None = None  # that no thread does yet
        self._callbacks: list[Callable[[Any], None]] = []
        if call.done():
            self._receive(call)
        else:
            call.add_done_callback(self._receive_and_start)

    def _receive(self, call: Any) -> None:
        """The first RPC has ended."""
        try:
            reply = self._payment.reply(self._attempt, call)
        except Exception as error:  # noqa: BLE001  of another interceptor's call; whoever waits must hear of it
            self._finish(RaisingCall(error))
            return
        if reply.toll is None:
            self._finish(call)
        else:
            self._work = lambda: self._pay(reply, call)

    def _receive_and_start(self, call: Any) -> None:
        """The same in a thread of grpc, which must not be held up."""
        self._receive(call)
        self._start()

    def _start(self) -> None:
        """Let another thread do the work that none does yet."""
        work = self._take_work()
        if work is None:
            return
        try:
            self._submit(work)
        except RuntimeError as error:
            self._finish(failed_call(FailedCall, SolveStopped(f"no thread can be started: {error}")))

    def _take_work(self) -> Callable[[], None] | None:
        with self._changed:
            work, self._work = self._work, None
        return work

    def _pay(self, reply: Reply, call: Any) -> None:
        if self._outcome is not None:
            return
        try:
            outcome = self._payment.outcome(reply, call)
        except Exception as error:  # noqa: BLE001  of the channel or of another interceptor
            outcome = RaisingCall(error)
        except BaseException:
            self._finish(CancelledCall())
            raise
        self._finish(outcome)

    def _finish(self, outcome: Any) -> bool:
        with self._changed:
            if self._outcome is not None:
                return False
            self._outcome = outcome
            callbacks, self._callbacks = self._callbacks, []
            self._changed.notify_all()
        for callback in callbacks:
            callback(self)
        return True

    def _wait(self, timeout: float | None = None) -> Any:
        """The outcome; without a time limit this thread does the work that none does yet."""
        if timeout is not None:
            self._start()
        elif (work := self._take_work()) is not None:
            work()
        with self._changed:
            if not self._changed.wait_for(lambda: self._outcome is not None, timeout):
                raise grpc.FutureTimeoutError
        return self._outcome

    def done(self) -> bool:
        self._start()
        return self._outcome is not None

    def running(self) -> bool:
        return not self.done()

    def cancel(self) -> bool:
        """Stop the work and the RPC. False if the call has ended."""
        cancelled = self._finish(CancelledCall())
        if cancelled:
            self._payment.stop()
        return cancelled

    def cancelled(self) -> bool:
        return self.done() and bool(self._outcome.cancelled())

    def result(self, timeout: float | None = None) -> Any:
        return self._wait(timeout).result()

    def exception(self, timeout: float | None = None) -> Any:
        return self._wait(timeout).exception()

    def traceback(self, timeout: float | None = None) -> TracebackType | None:
        found: TracebackType | None = self._wait(timeout).traceback()
        return found

    def add_done_callback(self, fn: Callable[[Any], None]) -> None:
        self._start()
        with self._changed:
            if self._outcome is None:
                self._callbacks.append(fn)
                return
        fn(self)

    def is_active(self) -> bool:
        return not self.done()

    def time_remaining(self) -> float | None:
        remaining: float | None = (self._outcome if self.done() else self._first).time_remaining()
        return remaining

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Call ``callback`` when the call ends; False if it has."""
        self._start()
        with self._changed:
            if self._outcome is not None:
                return False
            self._callbacks.append(lambda _: callback())
            return True

    def initial_metadata(self) -> Any:
        return self._wait().initial_metadata()

    def trailing_metadata(self) -> Any:
        return self._wait().trailing_metadata()

    def code(self) -> grpc.StatusCode:
        return self._wait().code()

    def details(self) -> Any:
        return self._wait().details()
