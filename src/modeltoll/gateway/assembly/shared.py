"""Builds from the settings what a gateway shares over reloads, and the drift monitors, which a reload may keep."""

from __future__ import annotations

import math
import secrets
import time
from typing import TYPE_CHECKING

from modeltoll.gateway.assembly.gateway import SharedResources
from modeltoll.gateway.core.drift_monitor import DriftMonitor
from modeltoll.gateway.core.suspect_monitor import SuspectMonitor, SuspectTerms
from modeltoll.gateway.observability.audit import AuditLog, NameHasher
from modeltoll.gateway.observability.metrics import GatewayMetrics
from modeltoll.gateway.observability.request_log import RequestRecorder
from modeltoll.gateway.state import ServerState
from modeltoll.pricing.adaptive_g import AdaptiveG
from modeltoll.pricing.conformal_tariff import ConformalTariff
from modeltoll.pricing.drift import DriftDetector

if TYPE_CHECKING:
    from modeltoll.gateway.assembly.gateway import Gateway
    from modeltoll.gateway.observability.tracing import Tracer
    from modeltoll.gateway.settings.gateway import Settings
    from modeltoll.gateway.upstream.upstream import Upstream
    from modeltoll.ledger.ledger import Ledger

__all__ = ["build_drift_monitor", "build_shared_resources", "build_suspect_monitor", "traced_upstream"]

_KEY_BYTES = 32
_DAY = 86_400.0  # seconds


def build_shared_resources(settings: Settings, ledger: Ledger, workers: int = 1) -> SharedResources:
    """The shared resources of a gateway that starts as one of ``workers`` processes.

    Raises:
        SettingsError: traces are configured, and the extra ``otel`` is not installed.
    """
    operation, tracer = settings.operation, None
    if operation.trace_endpoint is not None:
        from modeltoll.gateway.observability.tracing import tracer_for  # noqa: PLC0415  an extra

        tracer = tracer_for(operation.trace_endpoint, operation.trace_share)
    audit = AuditLog(operation.audit_file) if operation.audit_file else None
    # The last secret stays longest: a rotation puts new secrets in front.
    key = (
        bytes.fromhex(settings.secrets[-1].get_secret_value()) if settings.secrets else secrets.token_bytes(_KEY_BYTES)
    )
    metrics = GatewayMetrics()
    if audit is not None:
        metrics.register_gauge("audit_broken", lambda: audit.failing)
        metrics.register_counter("audit_lost_lines_total", lambda: audit.lost_lines)
    state = ServerState(settings_loaded_at=time.time())
    metrics.register_gauge("settings_broken", lambda: state.settings_invalid)
    metrics.register_gauge("settings_loaded_timestamp_seconds", lambda: state.settings_loaded_at)
    recorder = RequestRecorder(time.time, NameHasher(key), audit, tracer)
    return SharedResources(ledger, metrics, recorder, state, workers)


def build_drift_monitor(settings: Settings, tariff: ConformalTariff, before: Gateway | None) -> DriftMonitor:
    """The drift monitor of one model; that of the gateway ``before`` where nothing that it depends on has changed."""
    model = tariff.calibration.model
    choose_g = settings.models[model].choose_g
    if before is not None and model in before.gates:
        config = before.gates[model].config
        same_prices = isinstance(config.tariff, ConformalTariff) and _pricing(config.tariff) == _pricing(tariff)
        if config.drift_monitor is not None and same_prices and before.settings.models[model].choose_g == choose_g:
            return config.drift_monitor
    return DriftMonitor(model, DriftDetector(tariff), time.time, AdaptiveG(tariff) if choose_g else None)


def build_suspect_monitor(settings: Settings, tariff: ConformalTariff, before: Gateway | None) -> SuspectMonitor:
    """The monitor of one model's suspects; that of the gateway ``before`` where it counts the same."""
    model, alpha = tariff.calibration.model, tariff.calibration.suspicion.alpha
    terms = SuspectTerms(model, -math.log(alpha), settings.callers.long_standing_days * _DAY)
    gate = before.gates.get(model) if before is not None else None
    monitor = gate.config.suspect_monitor if gate is not None else None
    return monitor if monitor is not None and monitor.terms == terms else SuspectMonitor(terms, time.time)


def _pricing(tariff: ConformalTariff) -> tuple[object, ...]:
    """All that the tariff's prices are computed from."""
    data = tariff.calibration
    return data.identity, data.weights, data.g, data.unit_seconds, data.suspicion, data.new_account_toll


def traced_upstream(upstream: Upstream, tracer: Tracer) -> Upstream:
    """The same model server, with a span around each call."""
    from modeltoll.gateway.observability.tracing import TracedUpstream  # noqa: PLC0415  an extra

    return TracedUpstream(upstream, tracer)
