"""Records every request in the audit log and the traces, without payloads or keys."""

from __future__ import annotations

import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modeltoll.gateway.observability.audit import AuditRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from modeltoll.gateway.core.request import GateResult
    from modeltoll.gateway.observability.audit import AuditLog, NameHasher
    from modeltoll.gateway.observability.tracing import Tracer

__all__ = ["RequestFields", "RequestLogMiddleware", "RequestRecorder", "fields_of"]

_FIELDS = "modeltoll.request_fields"  # key in a request's scope
_CLIENT_GONE = 499


@dataclass(slots=True)
class RequestFields:
    """What the handlers of a request find out about it; see ``AuditRecord``."""

    route: str = ""
    caller: str = ""
    model: str = ""
    rows: int = 0
    mode: str = ""
    work: float = 0.0
    suspected: bool = False
    error: str = ""
    reason: str = ""
    first_event: float | None = None

    def set_result(self, model: str, result: GateResult) -> None:
        """Set the result of a model's gate."""
        work = result.work
        self.model, self.rows, self.mode = model, work.rows, result.mode
        self.work, self.suspected = work.seconds, work.suspected
        self.reason = result.reason


def fields_of(scope: Scope) -> RequestFields:
    """The fields of a request; for a request that is not recorded, fields that are discarded."""
    found = scope.get(_FIELDS)
    return found if isinstance(found, RequestFields) else RequestFields()


@dataclass(frozen=True, slots=True)
class RequestRecorder:
    """Where requests are recorded. ``clock`` gives seconds since the epoch; ``hasher`` hashes callers' names."""

    clock: Callable[[], float]
    hasher: NameHasher
    audit: AuditLog | None = None
    tracer: Tracer | None = None

    @property
    def is_recording(self) -> bool:
        """Whether there is an audit log, or there are traces."""
        return self.audit is not None or self.tracer is not None

    @contextmanager
    def recording(self, scope: Scope) -> Iterator[Callable[[int], None]]:
        """While the block lasts, a request is handled; yields what notes the status with which it ends.

        Its fields are in the scope from here on.
        """
        if not self.is_recording:
            yield lambda _: None
            return
        scope[_FIELDS] = RequestFields()
        status, begin = _CLIENT_GONE, time.perf_counter()

        def note_status(noted: int) -> None:
            nonlocal status
            status = noted

        with self.tracer.request_span(scope) if self.tracer else nullcontext() as span:
            try:
                yield note_status
            finally:
                record = self.audit_record(scope, status, time.perf_counter() - begin)
                if self.audit is not None:
                    self.audit.append(record)
                if span is not None:
                    span.set_result(record)

    def audit_record(self, scope: Scope, status: int, seconds: float) -> AuditRecord:
        """The record of a request that ended with ``status`` after ``seconds``."""
        fields = fields_of(scope)
        return AuditRecord(
            at=self.clock(),
            who=self.hasher.hash(fields.caller),
            method=scope["method"],
            route=fields.route,
            status=status,
            request_seconds=seconds,
            model=fields.model,
            rows=fields.rows,
            mode=fields.mode,
            work_seconds=fields.work,
            suspected=fields.suspected,
            error=fields.error,
            reason=fields.reason,
            first_event_seconds=fields.first_event,
        )


class RequestLogMiddleware:
    """An application whose requests are recorded."""

    def __init__(self, app: ASGIApp, recorder: RequestRecorder) -> None:
        self._app = app
        self._recorder = recorder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http" or not self._recorder.is_recording:
            await self._app(scope, receive, send)
            return
        with self._recorder.recording(scope) as note_status:

            async def send_and_note_status(message: Message) -> None:
                if message["type"] == "http.response.start":
                    note_status(message["status"])
                await send(message)

            await self._app(scope, receive, send_and_note_status)
