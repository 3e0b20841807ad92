"""The only place that picks implementations: settings in, a gateway out."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.errors import SettingsError
from modeltoll.gateway.assembly.admin import build_admin
from modeltoll.gateway.assembly.callers import build_admission, build_callers
from modeltoll.gateway.assembly.components import build_components
from modeltoll.gateway.assembly.gateway import Gateway
from modeltoll.gateway.assembly.shared import build_drift_monitor, traced_upstream
from modeltoll.gateway.assembly.startup_warnings import startup_warnings
from modeltoll.gateway.core.gate import Gate
from modeltoll.gateway.core.request import GateConfig, GateRuntime, ServedModel
from modeltoll.gateway.observability.metrics import GatewayMetrics
from modeltoll.gateway.observability.request_log import RequestLogMiddleware
from modeltoll.gateway.public.app import AppComponents, IngressPolicy, application
from modeltoll.gateway.settings.field_types import IN_PROCESS
from modeltoll.gateway.settings.load import Settings
from modeltoll.gateway.upstream.bounded_queue import BoundedUpstream
from modeltoll.gateway.upstream.http_upstream import HttpUpstream
from modeltoll.pricing.conformal import ConformalTariff
from modeltoll.pricing.fit import MINIMUM_UNIT_SECONDS
from modeltoll.puzzle.seal import KeyRing
from modeltoll.records import MachineProfile

if TYPE_CHECKING:
    from modeltoll.gateway.assembly.components import Components
    from modeltoll.gateway.callers.identify import Credentials
    from modeltoll.gateway.core.puzzle_selector import PuzzleSelector
    from modeltoll.gateway.observability.tracing import Tracer
    from modeltoll.gateway.upstream.upstream import Upstream
    from modeltoll.pricing.tariff import Tariff

__all__ = [
    "Gateway",
    "build_app_components",
    "build_gate_config",
    "build_gateway",
    "build_runtime",
    "build_upstream",
]

_KEY_BYTES = 32
_MIB = 1 << 20


def build_upstream(settings: Settings, tracing: Tracer | None = None) -> Upstream:
    """The model server's client, whose questions are traced where traces are asked for.

    Raises:
        SettingsError: the model is the application that the gate is built into; there is no server of its own.
    """
    upstream = settings.upstream
    if upstream.url == IN_PROCESS:
        raise SettingsError([f"upstream.url: {IN_PROCESS} is for TollMiddleware; write the model server's address"])
    server = HttpUpstream(
        upstream.url,
        timeout=upstream.timeout_seconds,
        connections=upstream.connections,
        max_body=int(upstream.max_answer_mib * _MIB),
        headers=tracing.headers if tracing else dict,
    )
    return traced_upstream(server, tracing) if tracing else server


def build_bounded_upstream(settings: Settings, upstream: Upstream) -> BoundedUpstream:
    """The queue in front of the model server."""
    bounds = settings.upstream
    return BoundedUpstream(
        upstream,
        concurrent=bounds.max_concurrent or bounds.connections,
        waiting=bounds.max_waiting,
        seconds=bounds.max_wait_seconds,
    )


def build_gate_config(settings: Settings, subject: ServedModel, tariff: Tariff, menu: PuzzleSelector) -> GateConfig:
    """All that one model's requests meet on their way."""
    model = settings.models[subject.service.model]
    return GateConfig(subject, tariff, menu, mode=model.mode, without_ledger=settings.ledger.when_down == "release")


def build_runtime(settings: Settings, profile: MachineProfile, before: KeyRing | None = None) -> GateRuntime:
    """The real clock, the system's randomness, and the keys of the settings, or those before, or of this process alone."""
    keys = tuple(bytes.fromhex(secret.get_secret_value()) for secret in settings.secrets)
    return GateRuntime(
        clock=time.time,
        rng=random.SystemRandom(),
        generator=np.random.default_rng(secrets.randbits(128)),
        ring=KeyRing(keys) if keys else before or KeyRing((secrets.token_bytes(_KEY_BYTES),)),
        profile=profile,
    )


def build_app_components(
    settings: Settings,
    gates: Mapping[str, Gate],
    upstream: Upstream,
    chance: GateRuntime,
    credentials: Sequence[Credentials] = (),
) -> AppComponents:
    """All that the public side needs."""
    limits, callers = settings.limits, build_callers(settings, credentials)
    door = IngressPolicy(callers, int(limits.body_mib * _MIB), limits.waiting, settings.cors.origins)
    return AppComponents(gates, upstream, door, GatewayMetrics(), chance)


def _register_gauges(telemetry: GatewayMetrics, queue: BoundedUpstream, parts: Components) -> None:
    roll, watches = parts.roll, parts.watches
    telemetry.follow("upstream_inside", "Requests that are with the model server", lambda: queue.inside)
    telemetry.follow("upstream_waiting", "Requests that wait for the model server", lambda: queue.waiting)
    telemetry.follow(
        "key_files_broken", "Files of keys that cannot be used as they are now", lambda: sum(w.broken for w in watches)
    )
    if roll:
        telemetry.follow("keys", "Keys of the key file that are in force", lambda: roll.good)


def build_gateway(settings: Settings, upstream: Upstream | None = None, before: Gateway | None = None) -> Gateway:
    """Build a gateway, in front of ``upstream`` if that is given, else of the server that the settings name.

    It takes the ground of the one ``before``, if there is one, and whatever of it these settings leave as it was.

    Raises:
        SettingsError: everything that the settings name and that cannot be built, at once.
    """
    parts = build_components(settings, before)
    ground, subjects, tariffs = parts.ground, parts.subjects, parts.tariffs
    queue = build_bounded_upstream(settings, upstream or build_upstream(settings, ground.witness.tracing))
    chance = build_runtime(settings, parts.profile, before.ring if before else None)
    monitors = {
        name: build_drift_monitor(settings, tariff, before)
        for name, tariff in tariffs.items()
        if isinstance(tariff, ConformalTariff)
    }
    entrance = build_admission(settings, before)
    gates = {
        name: Gate(
            replace(
                build_gate_config(settings, subject, tariffs[name], parts.menus[name]),
                monitor=monitors.get(name),
                entrance=entrance,
            ),
            queue,
            ground.ledger,
            chance,
        )
        for name, subject in subjects.items()
    }
    house = build_app_components(settings, gates, queue, chance, parts.credentials)
    house = replace(house, telemetry=ground.telemetry)
    _register_gauges(ground.telemetry, queue, parts)
    _publish_prices(ground.telemetry, gates)
    return Gateway(
        settings,
        ground,
        chance.ring,
        RequestLogMiddleware(application(house), ground.witness),
        build_admin(settings, gates, queue, ground, chance.clock),
        gates,
        queue,
        startup_warnings(settings, tariffs),
        parts.stock,
        parts.watches,
    )


def _publish_prices(telemetry: GatewayMetrics, gates: Mapping[str, Gate]) -> None:
    """Say which tariffs are in force."""
    telemetry.renew()
    for name, gate in gates.items():
        tariff, monitor = gate.road.tariff, gate.road.monitor
        if isinstance(tariff, ConformalTariff) and monitor is not None:
            unit = tariff.calibration.unit_seconds
            telemetry.price(name, unit, at_minimum=unit <= MINIMUM_UNIT_SECONDS)
            telemetry.watch(name, tariff.measures, tariff.suspicion.edges, monitor)
