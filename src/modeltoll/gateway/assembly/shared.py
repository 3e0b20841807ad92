"""What a gateway stands on as the settings name it: who is told of requests, and what is kept through a change."""

from __future__ import annotations

import secrets
import time
from operator import attrgetter
from typing import TYPE_CHECKING

from modeltoll.gateway.assembly.gateway import SharedResources
from modeltoll.gateway.core.drift_monitor import DriftMonitor
from modeltoll.gateway.observability.audit import AuditLog, NameHasher
from modeltoll.gateway.observability.metrics import GatewayMetrics
from modeltoll.gateway.observability.request_log import RequestRecorder
from modeltoll.gateway.state import ServerState
from modeltoll.pricing.adaptive_g import AdaptiveG
from modeltoll.pricing.conformal import ConformalTariff
from modeltoll.pricing.drift import DriftDetector

if TYPE_CHECKING:
    from modeltoll.gateway.assembly.gateway import Gateway
    from modeltoll.gateway.observability.tracing import Tracer
    from modeltoll.gateway.settings.load import Settings
    from modeltoll.gateway.upstream.upstream import Upstream
    from modeltoll.ledger.ledger import Ledger

__all__ = ["build_drift_monitor", "build_shared_resources", "traced_upstream"]

_KEY_BYTES = 32
_PRICES = attrgetter("identity", "weights", "g", "unit_seconds", "suspicion", "entry")  # all that prices come from


def build_shared_resources(settings: Settings, ledger: Ledger) -> SharedResources:
    """The ground of a gateway that starts.

    Raises:
        SettingsError: traces are asked for, and cannot be had.
    """
    operation, tracing = settings.operation, None
    if operation.trace_endpoint is not None:
        from modeltoll.gateway.observability.tracing import tracer_for  # noqa: PLC0415  an extra

        tracing = tracer_for(operation.trace_endpoint, operation.trace_share)
    audit = AuditLog(operation.audit_file) if operation.audit_file else None
    # The last of the secrets is the one that stays longest: those who rotate put new ones in front.
    key = (
        bytes.fromhex(settings.secrets[-1].get_secret_value()) if settings.secrets else secrets.token_bytes(_KEY_BYTES)
    )
    telemetry = GatewayMetrics()
    if audit is not None:
        telemetry.follow("audit_broken", "1 while the audit log cannot be written", lambda: audit.broken)
        telemetry.follow("audit_lost_lines", "Lines of the audit log that could not be written", lambda: audit.lost)
    standing = ServerState(settled=time.time())
    telemetry.follow("settings_broken", "1 while the settings file cannot be used as it is", lambda: standing.broken)
    telemetry.follow(
        "settings_settled_seconds", "When the settings in force were read, since the epoch", lambda: standing.settled
    )
    return SharedResources(ledger, telemetry, RequestRecorder(time.time, NameHasher(key), audit, tracing), standing)


def build_drift_monitor(settings: Settings, tariff: ConformalTariff, before: Gateway | None) -> DriftMonitor:
    """The watch on one model's traffic: the one before, where nothing of what it counts has changed."""
    model = tariff.calibration.model
    chooses = settings.models[model].choose_g
    if before is not None and model in before.gates:
        road, chose = before.gates[model].road, before.settings.models[model].choose_g
        same = isinstance(road.tariff, ConformalTariff) and _PRICES(road.tariff.calibration) == _PRICES(
            tariff.calibration
        )
        if road.monitor is not None and same and chose == chooses:
            return road.monitor
    return DriftMonitor(model, DriftDetector(tariff), time.time, AdaptiveG(tariff) if chooses else None)


def traced_upstream(upstream: Upstream, tracing: Tracer) -> Upstream:
    """The same model server, with a span around each question."""
    from modeltoll.gateway.observability.tracing import TracedUpstream  # noqa: PLC0415  an extra

    return TracedUpstream(upstream, tracing)
