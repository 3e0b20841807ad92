"""OpenTelemetry traces: a span for each request, and within it one for each call of the model server.

Spans carry the model, the rows, the mode, the work, and the caller's hash of the audit log; never a payload or a key.
A trace that the caller has begun is continued, and passed on to the model server (W3C ``traceparent``).
"""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from modeltoll.errors import SettingsError
from modeltoll.gateway.protocols.protocol import JSON
from modeltoll.gateway.upstream.upstream import NO_HEAD, UpstreamWrapper

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
    from collections.abc import AsyncIterator, Iterator, Mapping

    from opentelemetry.sdk.trace.export import SpanExporter
    from starlette.types import Scope

    from modeltoll.gateway.observability.audit import AuditRecord
    from modeltoll.gateway.upstream.upstream import AnswerStream, RequestHead, Upstream
    from modeltoll.records import Answer

__all__ = ["RequestSpan", "TracedUpstream", "Tracer", "tracer_for"]

_SERVICE = "modeltoll"
_TRACE_HEADERS = ("traceparent", "tracestate")


class RequestSpan:
    """The span of one request."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def set_result(self, record: AuditRecord) -> None:
        """Set the span's name, attributes and status from the request's audit record."""
        self._span.set_attributes(
            {
                "http.request.method": record.method,
                "http.route": record.route,
                "http.response.status_code": record.status,
                "modeltoll.who": record.who,
                "modeltoll.model": record.model,
                "modeltoll.rows": record.rows,
                "modeltoll.mode": record.mode,
                "modeltoll.work_seconds": record.work_seconds,
                "modeltoll.suspected": record.suspected,
            }
        )
        if record.route:
            self._span.update_name(f"{record.method} {record.route}")
        if record.first_event_seconds is not None:
            self._span.set_attribute("modeltoll.first_event_seconds", record.first_event_seconds)
        if record.error:
            self._span.set_attribute("error.type", record.error)
        if record.status >= 500:
            self._span.set_status(trace.StatusCode.ERROR)


class Tracer:
    """Creates spans and sends them to an exporter. ``sample_ratio`` is the share of the traces begun here that are sent."""

    def __init__(self, exporter: SpanExporter, sample_ratio: float) -> None:
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(sample_ratio)), resource=Resource.create({"service.name": _SERVICE})
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer(_SERVICE)
        self._propagator = TraceContextTextMapPropagator()

    @contextmanager
    def request_span(self, scope: Scope) -> Iterator[RequestSpan]:
        """The span of a request, while the block lasts. Exceptions are not recorded: their texts may hold private data."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        parent = self._propagator.extract({name: headers[name] for name in _TRACE_HEADERS if name in headers})
        with self._tracer.start_as_current_span(
            scope["method"], parent, trace.SpanKind.SERVER, record_exception=False, set_status_on_exception=False
        ) as span:
            yield RequestSpan(span)

    @contextmanager
    def upstream_span(self, path: str) -> Iterator[trace.Span]:
        """The span of a call of the model server, while the block lasts."""
        with self._tracer.start_as_current_span(
            "model server", kind=trace.SpanKind.CLIENT, attributes={"url.path": path}, record_exception=False
        ) as span:
            yield span

    @contextmanager
    def lasting_span(self, path: str) -> Iterator[trace.Span]:
        """The same, which is not the current one: ``trace.use_span`` makes it so for a part of the block."""
        span = self._tracer.start_span("model server", kind=trace.SpanKind.CLIENT, attributes={"url.path": path})
        try:
            yield span
        except Exception:
            span.set_status(trace.StatusCode.ERROR)
            raise
        finally:
            span.end()

    def headers(self) -> Mapping[str, str]:
        """The headers that pass the current trace on to the model server."""
        headers: dict[str, str] = {}
        self._propagator.inject(headers)
        return headers

    @contextmanager
    def running(self) -> Iterator[None]:
        """Export spans while the block lasts, and the rest at its end."""
        try:
            yield
        finally:
            self._provider.shutdown()


class TracedUpstream(UpstreamWrapper):
    """A model server with a span around each call."""

    def __init__(self, upstream: Upstream, tracer: Tracer) -> None:
        super().__init__(upstream)
        self._tracer = tracer

    async def predict(self, path: str, body: bytes, content_type: str = JSON, head: RequestHead = NO_HEAD) -> Answer:
        """See ``Upstream``."""
        with self._tracer.upstream_span(path):
            return await self._upstream.predict(path, body, content_type, head)

    @asynccontextmanager
    async def stream(
        self, path: str, body: bytes, content_type: str = JSON, head: RequestHead = NO_HEAD
    ) -> AsyncIterator[AnswerStream]:
        """See ``Upstream``. The span lasts as long as the stream; it is the current one until the stream's head came."""
        with self._tracer.lasting_span(path) as span:
            async with AsyncExitStack() as opened:
                with trace.use_span(span, record_exception=False, set_status_on_exception=False):
                    answer = await opened.enter_async_context(self._upstream.stream(path, body, content_type, head))
                yield answer

    async def fetch(self, path: str, head: RequestHead = NO_HEAD) -> Answer:
        """See ``Upstream``."""
        with self._tracer.upstream_span(path):
            return await self._upstream.fetch(path, head)


def tracer_for(endpoint: str, sample_ratio: float) -> Tracer:
    """A tracer that sends spans to a collector by OTLP over HTTP.

    Raises:
        SettingsError: the extra is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    except ImportError:
        raise SettingsError(["operation.trace_endpoint: traces need more: pip install 'modeltoll[otel]'"]) from None
    return Tracer(OTLPSpanExporter(endpoint=endpoint), sample_ratio)
