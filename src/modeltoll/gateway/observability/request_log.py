"""Who sees each request come and its answer go: the audit log and the traces. Neither sees a payload or a key."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modeltoll.gateway.observability.audit import AuditRecord

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from modeltoll.gateway.core.request import GateResult
    from modeltoll.gateway.observability.audit import AuditLog, NameHasher
    from modeltoll.gateway.observability.tracing import Tracer

__all__ = ["RequestLogMiddleware", "RequestRecorder", "fields_of"]

_NOTES = "modeltoll.notes"  # in a request's scope
_BROKEN_OFF = 499


@dataclass(slots=True)
class RequestFields:
    """What the handlers of one request say of it."""

    route: str = ""
    caller: str = ""
    model: str = ""
    rows: int = 0
    mode: str = ""
    work: float = 0.0
    suspected: bool = False
    error: str = ""

    def passed(self, model: str, passage: GateResult) -> None:
        """It went through a model's gate."""
        work = passage.work
        self.model, self.rows, self.mode = model, work.rows, passage.mode
        self.work, self.suspected = work.seconds, work.suspected


def fields_of(scope: Scope) -> RequestFields:
    """The notes of a request; of one that nobody watches they are lost."""
    found = scope.get(_NOTES)
    return found if isinstance(found, RequestFields) else RequestFields()


@dataclass(frozen=True, slots=True)
class RequestRecorder:
    """Where requests are told of; ``who`` names callers there. ``clock`` gives seconds since the epoch."""

    clock: Callable[[], float]
    who: NameHasher
    audit: AuditLog | None = None
    tracing: Tracer | None = None

    def deed(self, scope: Scope, status: int, seconds: float) -> AuditRecord:
        """What came of a request that took so long."""
        notes = fields_of(scope)
        return AuditRecord(
            at=self.clock(),
            who=self.who(notes.caller),
            method=scope["method"],
            route=notes.route,
            status=status,
            seconds=seconds,
            model=notes.model,
            rows=notes.rows,
            mode=notes.mode,
            work=notes.work,
            suspected=notes.suspected,
            error=notes.error,
        )


class RequestLogMiddleware:
    """An application whose requests are watched."""

    def __init__(self, app: ASGIApp, witness: RequestRecorder) -> None:
        self._app = app
        self._witness = witness

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        audit, tracing = self._witness.audit, self._witness.tracing
        if scope["type"] != "http" or (audit is None and tracing is None):
            await self._app(scope, receive, send)
            return
        scope[_NOTES] = RequestFields()
        status, begin = _BROKEN_OFF, time.perf_counter()

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        with tracing.request(scope) if tracing else nullcontext() as span:
            try:
                await self._app(scope, receive, sending)
            finally:
                deed = self._witness.deed(scope, status, time.perf_counter() - begin)
                if audit is not None:
                    audit.note(deed)
                if span is not None:
                    span.tell(deed)
