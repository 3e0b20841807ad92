"""Builds a gateway from settings; the only place that chooses implementations."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.gateway.assembly.admin import build_admin
from modeltoll.gateway.assembly.callers import build_credit_terms, build_identifier
from modeltoll.gateway.assembly.components import build_components
from modeltoll.gateway.assembly.gateway import Gateway
from modeltoll.gateway.assembly.grpc_side import HttpSide, build_grpc_side
from modeltoll.gateway.assembly.model_server import build_server_upstream, build_upstream_headers
from modeltoll.gateway.assembly.shared import build_drift_monitor, build_suspect_monitor, traced_upstream
from modeltoll.gateway.assembly.startup_warnings import startup_warnings
from modeltoll.gateway.core.gate import Gate
from modeltoll.gateway.core.refused_answers import RefusalTerms
from modeltoll.gateway.core.request import GateConfig, GateRuntime, ServedModel
from modeltoll.gateway.observability.metrics import GatewayMetrics
from modeltoll.gateway.observability.request_log import RequestLogMiddleware
from modeltoll.gateway.public.app import AppComponents, application
from modeltoll.gateway.public.ingress import Ingress, IngressPolicy
from modeltoll.gateway.settings.field_types import IN_PROCESS
from modeltoll.gateway.settings.gateway import Settings
from modeltoll.gateway.upstream.bounded_queue import BoundedUpstream
from modeltoll.gateway.upstream.hang_up import HangUpUpstream
from modeltoll.pricing.conformal_tariff import ConformalTariff
from modeltoll.pricing.fit import MINIMUM_UNIT_SECONDS
from modeltoll.puzzle.seal import KeyRing
from modeltoll.records import MachineProfile

if TYPE_CHECKING:
    from collections.abc import Callable

    from modeltoll.gateway.assembly.components import Components
    from modeltoll.gateway.callers.identify import CallerIdentifier
    from modeltoll.gateway.core.drift_monitor import DriftMonitor
    from modeltoll.gateway.core.puzzle_selector import PuzzleSelector
    from modeltoll.gateway.core.suspect_monitor import SuspectMonitor
    from modeltoll.gateway.observability.tracing import Tracer
    from modeltoll.gateway.upstream.upstream import Upstream
    from modeltoll.gateway.upstream.upstream_headers import UpstreamHeaders
    from modeltoll.ledger.ledger import Ledger
    from modeltoll.pricing.tariff import Tariff

__all__ = [
    "Gateway",
    "build_gate_config",
    "build_gateway",
    "build_ingress",
    "build_runtime",
    "build_upstream",
    "single_model_components",
    "system_runtime",
]

_KEY_BYTES = 32
_MIB = 1 << 20


def build_upstream(
    settings: Settings,
    tracer: Tracer | None = None,
    on_retry: Callable[[], None] = lambda: None,
    own_headers: UpstreamHeaders | None = None,
) -> Upstream:
    """The client of the model server; with a ``tracer``, its calls are traced. See ``HttpUpstream`` for ``on_retry``.

    ``own_headers``: those of ``build_upstream_headers``, if they were built before.

    Raises:
        SettingsError: the model is served by the application around the gateway; there is no server to connect to. Or its
            key or certificates cannot be read.
    """
    own = own_headers or build_upstream_headers(settings.upstream)
    if tracer is None:
        return build_server_upstream(settings.upstream, own, on_retry)
    traced = tracer  # for the type checker, in the function below

    def with_trace() -> Mapping[str, str]:
        return {**traced.headers(), **own()}

    return traced_upstream(build_server_upstream(settings.upstream, with_trace, on_retry), traced)


def build_bounded_upstream(settings: Settings, upstream: Upstream) -> BoundedUpstream:
    """The queue in front of the model server."""
    limits = settings.upstream
    return BoundedUpstream(
        upstream,
        max_concurrent=limits.max_concurrent or limits.connections,
        max_waiting=limits.max_waiting,
        max_wait_seconds=limits.max_wait_seconds,
    )


def build_gate_config(
    settings: Settings,
    served_model: ServedModel,
    tariff: Tariff,
    selector: PuzzleSelector,
    drift_monitor: DriftMonitor | None = None,
    suspect_monitor: SuspectMonitor | None = None,
) -> GateConfig:
    """The configuration of one model's gate."""
    return GateConfig(
        served_model,
        tariff,
        selector,
        mode=settings.models[served_model.service.model].mode,
        without_ledger=settings.ledger.when_down == "release",
        drift_monitor=drift_monitor,
        credit=build_credit_terms(settings),
        suspect_monitor=suspect_monitor,
        refusals=RefusalTerms(settings.upstream.error_texts, settings.upstream.url == IN_PROCESS),
    )


def system_runtime(profile: MachineProfile, key_ring: KeyRing | None = None) -> GateRuntime:
    """The system's clock and randomness. Without a key ring, it draws a key of its own."""
    return GateRuntime(
        clock=time.time,
        rng=random.SystemRandom(),
        generator=np.random.default_rng(secrets.randbits(128)),
        key_ring=key_ring or KeyRing((secrets.token_bytes(_KEY_BYTES),)),
        profile=profile,
    )


def build_runtime(settings: Settings, profile: MachineProfile, previous_keys: KeyRing | None = None) -> GateRuntime:
    """The system's clock and randomness, and what the settings say: keys (without any, the previous or new ones), sizes."""
    keys = tuple(bytes.fromhex(secret.get_secret_value()) for secret in settings.secrets)
    runtime = system_runtime(profile, KeyRing(keys) if keys else previous_keys)
    return replace(runtime, max_answer=int(settings.upstream.max_answer_mib * _MIB))


def build_ingress(settings: Settings, identifier: CallerIdentifier) -> IngressPolicy:
    """What is checked before a request reaches a gate."""
    limits = settings.limits
    return IngressPolicy(
        identifier,
        max_body=int(limits.body_mib * _MIB),
        max_requests=limits.waiting,
        cors_origins=settings.cors.origins,
        max_redemption=settings.largest_redemption,
        max_bodies=settings.max_bodies,
        caller_share=limits.caller_share,
        least_rate=limits.least_rate_kib * 1024,
        request_headers=settings.upstream.request_headers,
        cors_headers=settings.cors.headers,
        cors_max_age=settings.cors.max_age_seconds,
        root_path=settings.root_path,
    )


def single_model_components(
    config: GateConfig, upstream: Upstream, ledger: Ledger, runtime: GateRuntime, ingress: IngressPolicy
) -> AppComponents:
    """The components of a public application with a single gate and with metrics of its own."""
    gate = Gate(config, upstream, ledger, runtime)
    return AppComponents({config.served_model.service.model: gate}, upstream, ingress, GatewayMetrics(), runtime)


def build_gateway(
    settings: Settings, upstream: Upstream | None = None, before: Gateway | None = None, workers: int = 1
) -> Gateway:
    """Build a gateway in front of ``upstream``, by default of the server that the settings name.

    It takes over the shared resources of the gateway ``before``, and whatever else these settings leave unchanged.
    ``workers``: the processes that serve together, of a gateway without one before it.

    Raises:
        SettingsError: names every part of the settings that cannot be built.
    """
    components = build_components(settings, before, workers)
    shared, tariffs = components.shared, components.tariffs
    server = upstream or build_upstream(
        settings, shared.recorder.tracer, shared.metrics.count_upstream_retry, components.upstream_headers
    )
    bounded = build_bounded_upstream(settings, server)
    runtime = build_runtime(settings, components.profile, before.key_ring if before else None)
    cancelled = HangUpUpstream(bounded)
    gates = _build_gates(settings, components, cancelled, runtime, before)
    ingress = build_ingress(settings, build_identifier(settings, components.credentials))
    inside = Ingress(ingress)
    public = application(AppComponents(gates, cancelled, ingress, shared.metrics, runtime, inside))
    _register_gauges(shared.metrics, bounded, components)
    _publish_tariffs(shared.metrics, gates)
    return Gateway(
        settings=settings,
        shared=shared,
        key_ring=runtime.key_ring,
        public=RequestLogMiddleware(public, shared.recorder),
        admin=build_admin(settings, gates, bounded, shared, runtime.clock),
        gates=gates,
        upstream=bounded,
        warnings=startup_warnings(settings, tariffs),
        precomputed=components.precomputed,
        watches=components.watches,
        key_set=components.key_set,
        grpc=build_grpc_side(settings, HttpSide(gates, cancelled, inside, runtime, shared)),
    )


def _build_gates(
    settings: Settings, components: Components, upstream: Upstream, runtime: GateRuntime, before: Gateway | None
) -> Mapping[str, Gate]:
    """One gate per model, by name."""
    gates, shared = {}, components.shared
    for name, served_model in components.served_models.items():
        tariff = components.tariffs[name]
        drift_monitor, suspect_monitor = None, None
        if isinstance(tariff, ConformalTariff):
            drift_monitor = build_drift_monitor(settings, tariff, before)
            suspect_monitor = build_suspect_monitor(settings, tariff, before)
        selector = components.selectors[name]
        config = build_gate_config(settings, served_model, tariff, selector, drift_monitor, suspect_monitor)
        gates[name] = Gate(config, upstream, shared.ledger, runtime, shared.deferred_receipts)
    return gates


def _register_gauges(metrics: GatewayMetrics, upstream: BoundedUpstream, components: Components) -> None:
    api_keys, watches = components.api_keys, components.watches
    metrics.register_gauge("upstream_inside", lambda: upstream.active)
    metrics.register_gauge("upstream_waiting", lambda: upstream.waiting)
    metrics.register_gauge("key_files_broken", lambda: sum(watch.invalid for watch in watches))
    if api_keys:
        metrics.register_gauge("keys", lambda: api_keys.valid_count)


def _publish_tariffs(metrics: GatewayMetrics, gates: Mapping[str, Gate]) -> None:
    """Export the units, the drift and the suspects of the active tariffs."""
    metrics.clear_models()
    for name, gate in gates.items():
        tariff, config = gate.config.tariff, gate.config
        if not isinstance(tariff, ConformalTariff):
            continue
        unit = tariff.calibration.unit_seconds
        metrics.set_unit(name, unit, at_minimum=unit <= MINIMUM_UNIT_SECONDS)
        if config.drift_monitor is not None:
            metrics.register_monitor(name, tariff.calibration.coordinates, tariff.cells, config.drift_monitor)
        if config.suspect_monitor is not None:
            metrics.register_suspects(name, config.suspect_monitor)
