"""OpenTelemetry traces: a span for each request, and within it one for what the model server takes.

Spans name the model, the rows, the mode and the work; callers by the same hash as the audit log; never a payload or a key.
A trace that the caller has begun goes on, and goes on to the model server (W3C ``traceparent``).
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from modeltoll.errors import SettingsError
from modeltoll.gateway.protocols.protocol import JSON

try:
    from opentelemetry import trace
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError:
    raise SettingsError(["operation.trace_endpoint: traces need more: pip install 'modeltoll[otel]'"]) from None

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from opentelemetry.sdk.trace.export import SpanExporter
    from starlette.types import Scope

    from modeltoll.gateway.observability.audit import AuditRecord
    from modeltoll.gateway.upstream.upstream import Upstream
    from modeltoll.records import Answer

__all__ = ["RequestSpan", "TracedUpstream", "Tracer", "tracer_for"]

_NAME = "modeltoll"
_CARRIED = ("traceparent", "tracestate")


class RequestSpan:
    """The span of one request."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def tell(self, deed: AuditRecord) -> None:
        """Say what came of it."""
        self._span.set_attributes(
            {
                "http.request.method": deed.method,
                "http.route": deed.route,
                "http.response.status_code": deed.status,
                "modeltoll.caller": deed.who,
                "modeltoll.model": deed.model,
                "modeltoll.rows": deed.rows,
                "modeltoll.mode": deed.mode,
                "modeltoll.work_seconds": deed.work,
                "modeltoll.suspected": deed.suspected,
            }
        )
        if deed.route:
            self._span.update_name(f"{deed.method} {deed.route}")
        if deed.error:
            self._span.set_attribute("error.type", deed.error)
        if deed.status >= 500:
            self._span.set_status(trace.StatusCode.ERROR)


class Tracer:
    """Spans for an exporter; ``share`` of the traces that begin here are kept."""

    def __init__(self, exporter: SpanExporter, share: float) -> None:
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(share)), resource=Resource.create({"service.name": _NAME})
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer(_NAME)
        self._carrier = TraceContextTextMapPropagator()

    @contextmanager
    def request(self, scope: Scope) -> Iterator[RequestSpan]:
        """The span of a request, for as long as the block lasts; what goes wrong in it is told, never recorded here."""
        heard = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        parent = self._carrier.extract({name: heard[name] for name in _CARRIED if name in heard})
        with self._tracer.start_as_current_span(
            scope["method"], parent, trace.SpanKind.SERVER, record_exception=False, set_status_on_exception=False
        ) as span:
            yield RequestSpan(span)

    @contextmanager
    def asking(self, path: str) -> Iterator[None]:
        """The span of a question to the model server."""
        with self._tracer.start_as_current_span(
            "model server", kind=trace.SpanKind.CLIENT, attributes={"url.path": path}, record_exception=False
        ):
            yield

    def headers(self) -> Mapping[str, str]:
        """What tells the model server which trace it is in."""
        carried: dict[str, str] = {}
        self._carrier.inject(carried)
        return carried

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Export for as long as the block lasts; at its end what waits is sent."""
        try:
            yield
        finally:
            self._provider.shutdown()


class TracedUpstream:
    """A model server with a span around each question."""

    def __init__(self, upstream: Upstream, tracing: Tracer) -> None:
        self._upstream = upstream
        self._tracing = tracing

    async def open(self) -> None:
        """See ``Upstream``."""
        await self._upstream.open()

    async def close(self) -> None:
        """See ``Upstream``."""
        await self._upstream.close()

    async def predict(self, path: str, body: bytes, content_type: str = JSON) -> Answer:
        """See ``Upstream``."""
        with self._tracing.asking(path):
            return await self._upstream.predict(path, body, content_type)

    async def fetch(self, path: str) -> Answer:
        """See ``Upstream``."""
        with self._tracing.asking(path):
            return await self._upstream.fetch(path)


def tracer_for(endpoint: str, share: float) -> Tracer:
    """Traces sent to a collector's OTLP over HTTP.

    Raises:
        SettingsError: the extra is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    except ImportError:
        raise SettingsError(["operation.trace_endpoint: traces need more: pip install 'modeltoll[otel]'"]) from None
    return Tracer(OTLPSpanExporter(endpoint=endpoint), share)
