"""The Prometheus metrics of the gateway. They never contain a caller's name, a key or a payload."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from modeltoll.gateway.observability.metric_catalogue import METRICS, PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from modeltoll.gateway.core.drift_monitor import DriftMonitor
    from modeltoll.gateway.core.request import GateResult
    from modeltoll.gateway.core.suspect_monitor import SuspectMonitor
    from modeltoll.pricing.cells import Cells
    from modeltoll.records import Work

    _CellLabels = Sequence[tuple[str, str]]  # of one cell: (measure, bin of its p-value) of each coordinate

__all__ = ["GatewayMetrics"]

_DRIFT = ("log_evidence", "log_threshold", "mean_units", "detected")


@dataclass(frozen=True, slots=True)
class _ModelMetrics:
    """The metrics of one model and mode that every request updates."""

    requests: Counter
    rows: Counter
    work: Histogram
    seconds: Histogram

    def count(self, work: Work, seconds: float) -> None:
        self.requests.inc()
        self.rows.inc(work.rows)
        self.work.observe(work.seconds)
        self.seconds.observe(seconds)


class GatewayMetrics:
    """The metrics of one gateway process, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = self._counter("requests_total")
        self._rows = self._counter("rows_total")
        self._work = self._histogram("work_seconds")
        self._unmeasured = self._counter("unmeasured_requests_total")
        self._suspected = self._counter("suspected_requests_total")
        self._new_suspects = self._counter("new_suspects_total")
        self._long_standing = self._counter("long_standing_suspects_total")
        self._recent_suspects = self._gauge("suspected_callers")
        self._refusals = self._counter("refusals_total")
        self._grpc_calls = self._counter("grpc_calls_total")
        self._redemptions = self._counter("redemptions_total")
        self._upstream_retries = self._counter("upstream_retries_total")
        self._without_ledger = self._counter("without_ledger_total")
        self._seconds = self._histogram("request_seconds")
        self._first_event_seconds = self._histogram("first_event_seconds")
        self._unit = self._gauge("unit_seconds")
        self._model_metrics: dict[tuple[str, str], _ModelMetrics] = {}
        self._callback_gauges: dict[str, Gauge] = {}
        self._callback_counters: dict[str, tuple[Counter, Callable[[], float], float]] = {}
        self._monitors: dict[str, tuple[Sequence[_CellLabels], DriftMonitor]] = {}
        self._suspect_monitors: dict[str, SuspectMonitor] = {}
        self._drift = [self._gauge(f"drift_{name}") for name in _DRIFT]
        self._g = self._gauge("g")
        self._p_values = self._counter("p_values_total")
        self._unit_at_minimum = self._gauge("unit_at_minimum")

    def _counter(self, name: str) -> Counter:
        metric = METRICS[name]
        return Counter(PREFIX + name, metric.text, metric.labels, registry=self._registry)

    def _gauge(self, name: str) -> Gauge:
        metric = METRICS[name]
        return Gauge(PREFIX + name, metric.text, metric.labels, registry=self._registry)

    def _histogram(self, name: str) -> Histogram:
        metric = METRICS[name]
        return Histogram(PREFIX + name, metric.text, metric.labels, buckets=metric.buckets, registry=self._registry)

    def register_gauge(self, name: str, value: Callable[[], float]) -> None:
        """Add a gauge of the catalogue whose value is read when the metrics are, or give it a new function."""
        gauge = self._callback_gauges.get(name)
        if gauge is None:
            gauge = self._callback_gauges[name] = self._gauge(name)
        gauge.set_function(value)

    def register_counter(self, name: str, value: Callable[[], float]) -> None:
        """Add a counter of the catalogue, whose value, which never falls, is read when the metrics are."""
        self._callback_counters[name] = self._counter(name), value, 0.0

    def clear_models(self) -> None:
        """Remove the gauges of all models, before those of a new configuration are set. Counters keep their values."""
        self._monitors, self._suspect_monitors = {}, {}
        for gauge in (self._unit, self._unit_at_minimum, self._g, self._recent_suspects, *self._drift):
            gauge.clear()

    def set_unit(self, model: str, unit_seconds: float, *, at_minimum: bool) -> None:
        """Set a model's unit in reference seconds; ``at_minimum`` where it is the least possible one."""
        self._unit.labels(model).set(unit_seconds)
        self._unit_at_minimum.labels(model).set(float(at_minimum))

    def register_monitor(self, model: str, coordinates: Sequence[str], cells: Cells, monitor: DriftMonitor) -> None:
        """Export what a drift monitor counts. ``coordinates``: the measures whose p-values make the ``cells``."""
        labels = [
            [
                (measure, f"{low:g}-{high:g}")
                for measure, (low, high) in zip(coordinates, cells.bounds(cell), strict=True)
            ]
            for cell in range(cells.count)
        ]
        self._monitors[model] = labels, monitor

    def register_suspects(self, model: str, monitor: SuspectMonitor) -> None:
        """Export what a monitor of suspects counts."""
        self._suspect_monitors[model] = monitor

    def _update_drift(self) -> None:
        for model, (labels, monitor) in list(self._monitors.items()):  # a reload may change them meanwhile
            reading = monitor.reading()
            values = (reading.log_evidence, reading.log_threshold, reading.mean_units, float(reading.drifted))
            for gauge, value in zip(self._drift, values, strict=True):
                gauge.labels(model).set(value)
            if monitor.g is not None:
                self._g.labels(model).set(monitor.g)
            for bins, rows in zip(labels, monitor.drain_counts().tolist(), strict=True):
                for measure, bin_ in bins:
                    self._p_values.labels(model, measure, bin_).inc(rows)

    def _update_suspects(self) -> None:
        for model, monitor in list(self._suspect_monitors.items()):
            counts = monitor.drain()
            self._new_suspects.labels(model).inc(counts.new)
            self._long_standing.labels(model).inc(counts.long_standing)
            self._recent_suspects.labels(model).set(counts.recent)

    def _update_counters(self) -> None:
        for name, (counter, value, counted) in self._callback_counters.items():
            now = value()
            counter.inc(now - counted)
            self._callback_counters[name] = counter, value, now

    def count_request(self, model: str, result: GateResult, seconds: float) -> None:
        """Count a request that the gate handled in ``seconds``."""
        self._metrics_of(model, result.mode).count(result.work, seconds)
        if result.work.suspected:
            self._suspected.labels(model).inc()
        if result.reason:
            self._unmeasured.labels(model, result.reason.partition(":")[0]).inc()
        if not result.in_ledger:
            self._without_ledger.inc()

    def count_stream(self, model: str, seconds: float) -> None:
        """Count a stream whose first event came after ``seconds``."""
        self._first_event_seconds.labels(model).observe(seconds)

    def _metrics_of(self, model: str, mode: str) -> _ModelMetrics:
        """The metrics of a model and a mode, cached: a look-up by labels takes longer than an update."""
        known = self._model_metrics.get((model, mode))
        if known is None:
            rows, work, seconds = self._rows.labels(model), self._work.labels(model), self._seconds.labels(model)
            known = self._model_metrics[model, mode] = _ModelMetrics(
                self._requests.labels(model, mode), rows, work, seconds
            )
        return known

    def count_grpc_call(self, method: str, code: str) -> None:
        """Count a call over gRPC, by its method, which is one of those that are served, and the name of its status code."""
        self._grpc_calls.labels(method, code).inc()

    def count_redemption(self) -> None:
        """Count a token that was redeemed."""
        self._redemptions.inc()

    def count_upstream_retry(self) -> None:
        """Count a request that was sent to the model server again."""
        self._upstream_retries.inc()

    def count_error(self, error: str) -> None:
        """Count a request that ended in an error, by the name of the error's class."""
        self._refusals.labels(error).inc()

    def render(self) -> bytes:
        """The metrics in Prometheus' text format."""
        self._update_drift()
        self._update_suspects()
        self._update_counters()
        return generate_latest(self._registry)
