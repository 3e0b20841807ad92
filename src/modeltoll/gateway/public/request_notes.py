"""Notes what becomes of a request, in the metrics and for the request log."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from modeltoll.errors import ModeltollError
from modeltoll.gateway.observability.request_log import fields_of

if TYPE_CHECKING:
    from starlette.types import Scope

    from modeltoll.gateway.core.request import GateResult
    from modeltoll.gateway.observability.metrics import GatewayMetrics
    from modeltoll.gateway.public.streaming import EarlyHead

__all__ = ["RequestNotes", "note_error"]

log = logging.getLogger("modeltoll.gateway")


def note_error(metrics: GatewayMetrics, scope: Scope, error: Exception) -> ModeltollError:
    """Note an error that ended a request; what of it may be shown."""
    shown = error if isinstance(error, ModeltollError) else ModeltollError("the gateway failed")  # a bug
    metrics.count_error(type(shown).__name__)
    fields_of(scope).error = type(shown).__name__
    if shown.status >= 500:
        log.warning("%s: %s (%s)", type(shown).__name__, shown, shown.private)
    return shown


class RequestNotes:
    """The notes of one request to ``model``, whose last byte has just come. ``scope``: the request's."""

    def __init__(self, metrics: GatewayMetrics, model: str, scope: Scope) -> None:
        self.model = model
        self._metrics, self._scope = metrics, scope
        self._begin = time.perf_counter()

    def first_event(self, early: EarlyHead | None = None) -> None:
        """The first event of a stream has come; ``early`` may send the head of its toll from now on."""
        seconds = time.perf_counter() - self._begin
        self._metrics.count_stream(self.model, seconds)
        fields_of(self._scope).first_event = seconds
        if early is not None:
            early.first_event()

    def set_result(self, result: GateResult) -> None:
        """The gate has a result."""
        self._metrics.count_request(self.model, result, time.perf_counter() - self._begin)
        fields_of(self._scope).set_result(self.model, result)

    def set_error(self, error: Exception) -> ModeltollError:
        """The request ended in an error after the head of its response was sent; what of it may be shown."""
        if not isinstance(error, ModeltollError):  # no server logs it
            log.error("%s: a stream failed", self.model, exc_info=error)
        return note_error(self._metrics, self._scope, error)
