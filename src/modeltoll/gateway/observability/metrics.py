"""What the operator sees: Prometheus metrics. No caller's name, key or payload is ever in them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from modeltoll.gateway.core.drift_monitor import DriftMonitor
    from modeltoll.gateway.core.request import GateResult
    from modeltoll.records import Work

__all__ = ["GatewayMetrics"]

_WORK_BUCKETS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000)
_DRIFT = {
    "log_evidence": "Natural logarithm of the evidence that honest traffic is not what the tariff was made for",
    "log_threshold": "The log evidence at which a single caller would be suspected",
    "mean_units": "Mean price, in units and without surcharges, of callers not under suspicion; at most 1 is promised",
    "detected": "1 where that traffic is unlike the rows that the tariff was calibrated on",
}
_OWN_BUCKETS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5)


@dataclass(frozen=True, slots=True)
class _ModelMetrics:
    """What every request of one model and mode moves."""

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
    """The gateway's meters, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "modeltoll_requests", "Requests by how they ended", ["model", "mode"], registry=self._registry
        )
        self._rows = Counter("modeltoll_rows", "Rows answered", ["model"], registry=self._registry)
        self._work = Histogram(
            "modeltoll_work_seconds",
            "Expected reference seconds of a request's toll",
            ["model"],
            buckets=_WORK_BUCKETS,
            registry=self._registry,
        )
        self._suspected = Counter(
            "modeltoll_suspected_requests", "Requests of callers under suspicion", ["model"], registry=self._registry
        )
        self._refusals = Counter(
            "modeltoll_refusals", "Requests that ended in an error", ["error"], registry=self._registry
        )
        self._redemptions = Counter(
            "modeltoll_redemptions", "Answers handed over for a token and its solution", registry=self._registry
        )
        self._unremembered = Counter(
            "modeltoll_without_ledger", "Answers priced while the ledger did not answer", registry=self._registry
        )
        self._seconds = Histogram(
            "modeltoll_request_seconds",
            "Time from a request's last byte to its answer, the model server's time included",
            ["model"],
            buckets=_OWN_BUCKETS,
            registry=self._registry,
        )
        self._unit = Gauge(
            "modeltoll_unit_seconds", "Work of an average honest row", ["model"], registry=self._registry
        )
        self._kept: dict[tuple[str, str], _ModelMetrics] = {}
        self._followed: dict[str, Gauge] = {}
        self._watched: dict[str, tuple[Sequence[str], Sequence[str], DriftMonitor]] = {}
        self._drift = {
            name: Gauge(f"modeltoll_drift_{name}", text, ["model"], registry=self._registry)
            for name, text in _DRIFT.items()
        }
        self._g = Gauge(
            "modeltoll_g", "Bend of the price in force, where it is chosen anew", ["model"], registry=self._registry
        )
        self._p_values = Counter(
            "modeltoll_p_values",
            "New rows of callers not under suspicion, by measure and by the bin of their p-value",
            ["model", "measure", "p"],
            registry=self._registry,
        )
        self._eaten = Gauge(
            "modeltoll_unit_at_minimum",
            "1 where the gateway's own time eats the unit and a stated minimum is in force",
            ["model"],
            registry=self._registry,
        )

    def follow(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Show a value as it is at the moment of the look."""
        gauge = self._followed.get(name)
        if gauge is None:
            gauge = self._followed[name] = Gauge(f"modeltoll_{name}", text, registry=self._registry)
        gauge.set_function(value)

    def renew(self) -> None:
        """Forget which models there were: others are said next. What was counted stays."""
        self._watched = {}
        for gauge in (self._unit, self._eaten, self._g, *self._drift.values()):
            gauge.clear()

    def price(self, model: str, unit_seconds: float, *, at_minimum: bool) -> None:
        """Say which unit is in force."""
        self._unit.labels(model).set(unit_seconds)
        self._eaten.labels(model).set(float(at_minimum))

    def watch(self, model: str, measures: Sequence[str], edges: Sequence[float], monitor: DriftMonitor) -> None:
        """Show what a monitor counts: the bins of ``edges`` (0 to 1) for each of these measures."""
        bins = [f"{low:g}-{high:g}" for low, high in pairwise(edges)]
        self._watched[model] = (measures, bins, monitor)

    def _show_drift(self) -> None:
        for model, (measures, bins, monitor) in list(self._watched.items()):  # a reload may put others there
            reading = monitor.reading()
            values = (reading.log_evidence, reading.log_threshold, reading.mean_units, float(reading.drifted))
            for gauge, value in zip(self._drift.values(), values, strict=True):
                gauge.labels(model).set(value)
            if monitor.g is not None:
                self._g.labels(model).set(monitor.g)
            for measure, counts in zip(measures, monitor.drain().tolist(), strict=True):
                for bin_, rows in zip(bins, counts, strict=True):
                    self._p_values.labels(model, measure, bin_).inc(rows)

    def passed(self, model: str, passage: GateResult, seconds: float) -> None:
        """Count a request that went through the gate in ``seconds``."""
        self._meters(model, passage.mode).count(passage.work, seconds)
        if passage.work.suspected:
            self._suspected.labels(model).inc()
        if not passage.remembered:
            self._unremembered.inc()

    def _meters(self, model: str, mode: str) -> _ModelMetrics:
        """Those of a model and a mode, looked up once: a look-up by labels takes longer than what it finds."""
        known = self._kept.get((model, mode))
        if known is None:
            rows, work, seconds = self._rows.labels(model), self._work.labels(model), self._seconds.labels(model)
            known = self._kept[model, mode] = _ModelMetrics(self._requests.labels(model, mode), rows, work, seconds)
        return known

    def redeemed(self) -> None:
        """Count an answer that was handed over for a token."""
        self._redemptions.inc()

    def refused(self, error: str) -> None:
        """Count a request that ended in an error, by the error's class."""
        self._refusals.labels(error).inc()

    def page(self) -> bytes:
        """The metrics in Prometheus' text format."""
        self._show_drift()
        return generate_latest(self._registry)
