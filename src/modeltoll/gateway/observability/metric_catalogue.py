"""Every metric of the gateway: its name, its kind, its labels and what it says. Documents are made from this list.

Names are those of Prometheus: units in the name, ``_total`` for counters. The values of labels are bounded: models and measures
are those of the settings, modes and classes of errors are those of the program. No label names a caller.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["METRICS", "PREFIX", "Metric"]

PREFIX = "modeltoll_"
_WORK_BUCKETS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000)
_REQUEST_BUCKETS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 2, 5, 10, 30, 60)


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: ``name`` without the prefix, and what it says, in ``text``. ``buckets`` are those of a histogram."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    text: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


_ALL = (
    Metric("requests_total", "counter", "Requests by how they ended", ("model", "mode")),
    Metric("rows_total", "counter", "Rows answered", ("model",)),
    Metric("work_seconds", "histogram", "Expected reference seconds of a request's toll", ("model",), _WORK_BUCKETS),
    Metric(
        "request_seconds",
        "histogram",
        "Time from a request's last byte to its answer, the model server's time included",
        ("model",),
        _REQUEST_BUCKETS,
    ),
    Metric(
        "first_event_seconds",
        "histogram",
        "Time from a request's last byte to the first event of its stream, whether it is passed on or sealed",
        ("model",),
        _REQUEST_BUCKETS,
    ),
    Metric("refusals_total", "counter", "Requests that ended in an error, by the class of the error", ("error",)),
    Metric(
        "unmeasured_requests_total",
        "counter",
        "Requests that shadow mode answered without measuring them",
        ("model", "reason"),
    ),
    Metric("grpc_calls_total", "counter", "Calls over gRPC, by method and status code", ("method", "code")),
    Metric("redemptions_total", "counter", "Answers handed over for a token and its solution"),
    Metric("without_ledger_total", "counter", "Answers priced while the ledger did not answer"),
    Metric(
        "upstream_retries_total",
        "counter",
        "Requests sent again because the model server closed a kept connection",
    ),
    Metric("upstream_inside", "gauge", "Requests that are with the model server"),
    Metric("upstream_waiting", "gauge", "Requests that wait for the model server"),
    Metric("suspected_requests_total", "counter", "Requests of callers under suspicion", ("model",)),
    Metric("new_suspects_total", "counter", "Callers that came under suspicion", ("model",)),
    Metric(
        "long_standing_suspects_total",
        "counter",
        "Callers of long standing that came under suspicion",
        ("model",),
    ),
    Metric(
        "suspected_callers",
        "gauge",
        "Callers under suspicion at their latest request, of the last 24 hours and of this process",
        ("model",),
    ),
    Metric("unit_seconds", "gauge", "Work of an average honest row, in reference seconds", ("model",)),
    Metric(
        "unit_at_minimum",
        "gauge",
        "1 where the gateway's own time exceeds the unit and a stated minimum is used instead",
        ("model",),
    ),
    Metric("g", "gauge", "Exponent g of the active tariff, where it is chosen automatically", ("model",)),
    Metric(
        "p_values_total",
        "counter",
        "New rows of all but exempt callers, by measure of the evidence and by the bin of their p-value",
        ("model", "measure", "p"),
    ),
    Metric(
        "drift_log_evidence",
        "gauge",
        "Natural logarithm of the evidence that honest traffic is not what the tariff was made for",
        ("model",),
    ),
    Metric("drift_log_threshold", "gauge", "The log evidence at which a single caller would be suspected", ("model",)),
    Metric(
        "drift_mean_units",
        "gauge",
        "Mean price, in units and without surcharges, of all but exempt callers; at most 1 is promised",
        ("model",),
    ),
    Metric(
        "drift_detected",
        "gauge",
        "1 where that traffic is unlike the rows that the tariff was calibrated on",
        ("model",),
    ),
    Metric("keys", "gauge", "Keys of the key file that are in force"),
    Metric("key_files_broken", "gauge", "Files and URLs of keys that cannot be used as they are now"),
    Metric("settings_broken", "gauge", "1 while the settings file cannot be used as it is"),
    Metric(
        "settings_loaded_timestamp_seconds", "gauge", "When the settings in force were read, in seconds since the epoch"
    ),
    Metric("audit_broken", "gauge", "1 while the audit log cannot be written"),
    Metric("audit_lost_lines_total", "counter", "Lines of the audit log that could not be written"),
    Metric("workers", "gauge", "Workers whose metrics are on this page; only where there are several"),
)
METRICS = {metric.name: metric for metric in _ALL}
