"""The Prometheus metrics of the gateway. They never contain a caller's name, a key or a payload."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from modeltoll.gateway.core.drift_monitor import DriftMonitor
    from modeltoll.gateway.core.request import GateResult
    from modeltoll.gateway.core.suspect_monitor import SuspectMonitor
    from modeltoll.pricing.cells import Cells
    from modeltoll.records import Work

    _CellLabels = Sequence[tuple[str, str]]  # of one cell: (measure, bin of its p-value) of each coordinate

__all__ = ["GatewayMetrics"]

_WORK_BUCKETS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000)
_DRIFT = {
    "log_evidence": "Natural logarithm of the evidence that honest traffic is not what the tariff was made for",
    "log_threshold": "The log evidence at which a single caller would be suspected",
    "mean_units": "Mean price, in units and without surcharges, of all but exempt callers; at most 1 is promised",
    "detected": "1 where that traffic is unlike the rows that the tariff was calibrated on",
}
_REQUEST_BUCKETS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5)


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
        self._requests = self._counter("requests", "Requests by how they ended", "model", "mode")
        self._rows = self._counter("rows", "Rows answered", "model")
        self._work = self._histogram(
            "work_seconds", "Expected reference seconds of a request's toll", _WORK_BUCKETS, "model"
        )
        self._suspected = self._counter("suspected_requests", "Requests of callers under suspicion", "model")
        self._new_suspects = self._counter("new_suspects", "Callers that came under suspicion", "model")
        self._long_standing = self._counter(
            "long_standing_suspects", "Callers of long standing that came under suspicion", "model"
        )
        self._recent_suspects = self._gauge(
            "suspected_callers",
            "Callers under suspicion at their latest request, of the last 24 hours and of this process",
            "model",
        )
        self._unmeasured = self._counter(
            "unmeasured_requests", "Requests that shadow mode answered without measuring them", "model", "reason"
        )
        self._refusals = self._counter("refusals", "Requests that ended in an error", "error")
        self._redemptions = self._counter("redemptions", "Answers handed over for a token and its solution")
        self._upstream_retries = self._counter(
            "upstream_retries", "Requests sent again because the model server closed a kept connection"
        )
        self._without_ledger = self._counter("without_ledger", "Answers priced while the ledger did not answer")
        self._seconds = self._histogram(
            "request_seconds",
            "Time from a request's last byte to its answer, the model server's time included",
            _REQUEST_BUCKETS,
            "model",
        )
        self._unit = self._gauge("unit_seconds", "Work of an average honest row", "model")
        self._model_metrics: dict[tuple[str, str], _ModelMetrics] = {}
        self._callback_gauges: dict[str, Gauge] = {}
        self._monitors: dict[str, tuple[Sequence[_CellLabels], DriftMonitor]] = {}
        self._suspect_monitors: dict[str, SuspectMonitor] = {}
        self._drift = {name: self._gauge(f"drift_{name}", text, "model") for name, text in _DRIFT.items()}
        self._g = self._gauge("g", "Exponent g of the active tariff, where it is chosen automatically", "model")
        self._p_values = self._counter(
            "p_values",
            "New rows of all but exempt callers, by measure of the evidence and by the bin of their p-value",
            "model",
            "measure",
            "p",
        )
        self._unit_at_minimum = self._gauge(
            "unit_at_minimum",
            "1 where the gateway's own time exceeds the unit and a stated minimum is used instead",
            "model",
        )

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"modeltoll_{name}", text, labels, registry=self._registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"modeltoll_{name}", text, labels, registry=self._registry)

    def _histogram(self, name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(f"modeltoll_{name}", text, labels, buckets=buckets, registry=self._registry)

    def register_gauge(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Add a gauge whose value is read when the metrics are. A gauge of the same name gets the new function."""
        gauge = self._callback_gauges.get(name)
        if gauge is None:
            gauge = self._callback_gauges[name] = self._gauge(name, text)
        gauge.set_function(value)

    def clear_models(self) -> None:
        """Remove the gauges of all models, before those of a new configuration are set. Counters keep their values."""
        self._monitors, self._suspect_monitors = {}, {}
        for gauge in (self._unit, self._unit_at_minimum, self._g, self._recent_suspects, *self._drift.values()):
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
            for gauge, value in zip(self._drift.values(), values, strict=True):
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

    def count_request(self, model: str, result: GateResult, seconds: float) -> None:
        """Count a request that the gate handled in ``seconds``."""
        self._metrics_of(model, result.mode).count(result.work, seconds)
        if result.work.suspected:
            self._suspected.labels(model).inc()
        if result.reason:
            self._unmeasured.labels(model, result.reason.partition(":")[0]).inc()
        if not result.in_ledger:
            self._without_ledger.inc()

    def _metrics_of(self, model: str, mode: str) -> _ModelMetrics:
        """The metrics of a model and a mode, cached: a look-up by labels takes longer than an update."""
        known = self._model_metrics.get((model, mode))
        if known is None:
            rows, work, seconds = self._rows.labels(model), self._work.labels(model), self._seconds.labels(model)
            known = self._model_metrics[model, mode] = _ModelMetrics(
                self._requests.labels(model, mode), rows, work, seconds
            )
        return known

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
        return generate_latest(self._registry)
