"""Calls that have ended: one whose seal was opened, one whose toll was not paid, one that was cancelled meanwhile.

Those of ``grpc`` are both a ``grpc.Call`` and a ``grpc.Future``, like the objects that it gives to interceptors and callers itself.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import TracebackType
from typing import Any

import grpc
import grpc.aio

from modeltoll.errors import SealBroken, SolveStopped, TollError, TollMalformed

__all__ = ["CancelledCall", "FailedAioCall", "FailedCall", "FinishedCall", "OpenedCall", "RaisingCall", "failed_call"]

_LATE = "the deadline of the call passed while its toll was being paid; set a longer timeout"


class FinishedCall(grpc.Call, grpc.Future):  # type: ignore[misc]  # grpc ships no types
    """A call that has ended."""

    def is_active(self) -> bool:
        return False

    def time_remaining(self) -> float | None:
        return None

    def cancel(self) -> bool:
        return False

    def add_callback(self, callback: Callable[[], None]) -> bool:  # noqa: ARG002  grpc's interface
        return False

    def cancelled(self) -> bool:
        return False

    def running(self) -> bool:
        return False

    def done(self) -> bool:
        return True

    def add_done_callback(self, fn: Callable[[Any], None]) -> None:
        fn(self)


class OpenedCall(FinishedCall):
    """A call whose seal was opened: the sealed message, and the rest of the call that brought the seal."""

    def __init__(self, response: Any, call: Any) -> None:
        self._response = response
        self._call = call

    def initial_metadata(self) -> Any:
        return self._call.initial_metadata()

    def trailing_metadata(self) -> Any:
        return self._call.trailing_metadata()

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.OK

    def details(self) -> str:
        return ""

    def result(self, timeout: float | None = None) -> Any:  # noqa: ARG002
        return self._response

    def exception(self, timeout: float | None = None) -> None:  # noqa: ARG002
        return None

    def traceback(self, timeout: float | None = None) -> None:  # noqa: ARG002
        return None


class CancelledCall(FinishedCall):
    """A call that its caller cancelled while its toll was being paid."""

    def cancelled(self) -> bool:
        return True

    def initial_metadata(self) -> tuple[()]:
        return ()

    def trailing_metadata(self) -> tuple[()]:
        return ()

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.CANCELLED

    def details(self) -> str:
        return "cancelled while the toll was being paid"

    def result(self, timeout: float | None = None) -> Any:  # noqa: ARG002
        raise grpc.FutureCancelledError

    def exception(self, timeout: float | None = None) -> Any:  # noqa: ARG002
        raise grpc.FutureCancelledError

    def traceback(self, timeout: float | None = None) -> Any:  # noqa: ARG002
        raise grpc.FutureCancelledError


class RaisingCall(FinishedCall):
    """A call that ended with an exception of a channel or of another interceptor."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def initial_metadata(self) -> tuple[()]:
        return ()

    def trailing_metadata(self) -> tuple[()]:
        return ()

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNKNOWN

    def details(self) -> str:
        return str(self._error)

    def result(self, timeout: float | None = None) -> Any:  # noqa: ARG002
        raise self._error

    def exception(self, timeout: float | None = None) -> Exception:  # noqa: ARG002
        return self._error

    def traceback(self, timeout: float | None = None) -> TracebackType | None:  # noqa: ARG002
        return self._error.__traceback__


class _Failure:
    """The status of a call whose toll was not paid. ``rpc_code``: as in gRPC."""

    rpc_code = grpc.StatusCode.FAILED_PRECONDITION

    def initial_metadata(self) -> Any:
        return grpc.aio.Metadata()

    def trailing_metadata(self) -> Any:
        return grpc.aio.Metadata()

    def code(self) -> grpc.StatusCode:
        return self.rpc_code

    def details(self) -> str:
        return f"toll not paid: {self}"

    def debug_error_string(self) -> str:
        return f"{type(self).__name__}: {self}"

    def __str__(self) -> str:
        return Exception.__str__(self)  # type: ignore[arg-type]  # only errors inherit this

    def __repr__(self) -> str:
        return f"<{self.debug_error_string()} ({self.rpc_code.name})>"


class FailedCall(_Failure, FinishedCall, grpc.RpcError):  # type: ignore[misc]
    """A call of ``grpc`` whose toll was not paid, as the error that its result raises."""

    def result(self, timeout: float | None = None) -> Any:  # noqa: ARG002
        raise self

    def exception(self, timeout: float | None = None) -> FailedCall:  # noqa: ARG002
        return self

    def traceback(self, timeout: float | None = None) -> TracebackType | None:  # noqa: ARG002
        return self.__traceback__  # type: ignore[no-any-return]


class FailedAioCall(_Failure, grpc.aio.AioRpcError):  # type: ignore[misc]
    """The same for ``grpc.aio``."""


@cache
def _error_class(base: type, kind: Any) -> Any:
    return type(kind.__name__, (base, kind), {"__module__": kind.__module__})


def failed_call(base: type, error: TollError, *, late: bool = False, cancelled: bool = False) -> Any:
    """An error that is both: of the class of ``error``, and a ``base`` (``FailedCall`` or ``FailedAioCall``).

    ``late``: the call's deadline has passed. ``cancelled``: its caller has cancelled it.
    """
    code = grpc.StatusCode.FAILED_PRECONDITION
    if isinstance(error, SolveStopped) and late:
        error, code = SolveStopped(_LATE), grpc.StatusCode.DEADLINE_EXCEEDED
    elif isinstance(error, SolveStopped) and cancelled:
        code = grpc.StatusCode.CANCELLED
    elif isinstance(error, TollMalformed | SealBroken):
        code = grpc.StatusCode.INTERNAL
    found: Any = type(error)
    kind = _error_class(base, found)
    failed = kind.__new__(kind, *error.args)
    failed.__dict__.update(error.__dict__)
    failed.__cause__, failed.rpc_code = error, code
    return failed
