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
from modeltoll.gateway.assembly.callers import build_callers, build_entrance
from modeltoll.gateway.assembly.components import build_parts
from modeltoll.gateway.assembly.gateway import Assembly
from modeltoll.gateway.assembly.shared import build_monitor, traced
from modeltoll.gateway.assembly.startup_warnings import notices
from modeltoll.gateway.core.gate import Gate, Road, Subject
from modeltoll.gateway.core.tolls import Chance
from modeltoll.gateway.observability.metrics import Telemetry
from modeltoll.gateway.observability.request_log import Witnessed
from modeltoll.gateway.public.app import Door, House, application
from modeltoll.gateway.settings.field_types import IN_PROCESS
from modeltoll.gateway.settings.load import Settings
from modeltoll.gateway.upstream.bounded_queue import Queue
from modeltoll.gateway.upstream.http_upstream import HttpUpstream
from modeltoll.pricing.calibration import MINIMUM_UNIT_SECONDS
from modeltoll.pricing.conformal import ConformalTariff
from modeltoll.puzzle.seal import KeyRing
from modeltoll.records import MachineProfile

if TYPE_CHECKING:
    from modeltoll.gateway.assembly.components import Parts
    from modeltoll.gateway.callers.identify import Credentials
    from modeltoll.gateway.core.puzzle_selector import Menu
    from modeltoll.gateway.observability.tracing import Tracing
    from modeltoll.gateway.upstream.http_upstream import Upstream
    from modeltoll.pricing.tariff import Tariff

__all__ = [
    "Assembly",
    "assemble",
    "build_chance",
    "build_house",
    "build_road",
    "build_upstream",
]

_KEY_BYTES = 32
_MIB = 1 << 20


def build_upstream(settings: Settings, tracing: Tracing | None = None) -> Upstream:
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
    return traced(server, tracing) if tracing else server


def build_queue(settings: Settings, upstream: Upstream) -> Queue:
    """The queue in front of the model server."""
    bounds = settings.upstream
    return Queue(
        upstream,
        concurrent=bounds.max_concurrent or bounds.connections,
        waiting=bounds.max_waiting,
        seconds=bounds.max_wait_seconds,
    )


def build_road(settings: Settings, subject: Subject, tariff: Tariff, menu: Menu) -> Road:
    """All that one model's requests meet on their way."""
    model = settings.models[subject.service.model]
    return Road(subject, tariff, menu, mode=model.mode, without_ledger=settings.ledger.when_down == "release")


def build_chance(settings: Settings, profile: MachineProfile, before: KeyRing | None = None) -> Chance:
    """The real clock, the system's randomness, and the keys of the settings, or those before, or of this process alone."""
    keys = tuple(bytes.fromhex(secret.get_secret_value()) for secret in settings.secrets)
    return Chance(
        clock=time.time,
        rng=random.SystemRandom(),
        generator=np.random.default_rng(secrets.randbits(128)),
        ring=KeyRing(keys) if keys else before or KeyRing((secrets.token_bytes(_KEY_BYTES),)),
        profile=profile,
    )


def build_house(
    settings: Settings,
    gates: Mapping[str, Gate],
    upstream: Upstream,
    chance: Chance,
    credentials: Sequence[Credentials] = (),
) -> House:
    """All that the public side needs."""
    limits, callers = settings.limits, build_callers(settings, credentials)
    door = Door(callers, int(limits.body_mib * _MIB), limits.waiting, settings.cors.origins)
    return House(gates, upstream, door, Telemetry(), chance)


def _follow(telemetry: Telemetry, queue: Queue, parts: Parts) -> None:
    roll, watches = parts.roll, parts.watches
    telemetry.follow("upstream_inside", "Requests that are with the model server", lambda: queue.inside)
    telemetry.follow("upstream_waiting", "Requests that wait for the model server", lambda: queue.waiting)
    telemetry.follow(
        "key_files_broken", "Files of keys that cannot be used as they are now", lambda: sum(w.broken for w in watches)
    )
    if roll:
        telemetry.follow("keys", "Keys of the key file that are in force", lambda: roll.good)


def assemble(settings: Settings, upstream: Upstream | None = None, before: Assembly | None = None) -> Assembly:
    """Build a gateway, in front of ``upstream`` if that is given, else of the server that the settings name.

    It takes the ground of the one ``before``, if there is one, and whatever of it these settings leave as it was.

    Raises:
        SettingsError: everything that the settings name and that cannot be built, at once.
    """
    parts = build_parts(settings, before)
    ground, subjects, tariffs = parts.ground, parts.subjects, parts.tariffs
    queue = build_queue(settings, upstream or build_upstream(settings, ground.witness.tracing))
    chance = build_chance(settings, parts.profile, before.ring if before else None)
    monitors = {
        name: build_monitor(settings, tariff, before)
        for name, tariff in tariffs.items()
        if isinstance(tariff, ConformalTariff)
    }
    entrance = build_entrance(settings, before)
    gates = {
        name: Gate(
            replace(
                build_road(settings, subject, tariffs[name], parts.menus[name]),
                monitor=monitors.get(name),
                entrance=entrance,
            ),
            queue,
            ground.ledger,
            chance,
        )
        for name, subject in subjects.items()
    }
    house = build_house(settings, gates, queue, chance, parts.credentials)
    house = replace(house, telemetry=ground.telemetry)
    _follow(ground.telemetry, queue, parts)
    _show(ground.telemetry, gates)
    return Assembly(
        settings,
        ground,
        chance.ring,
        Witnessed(application(house), ground.witness),
        build_admin(settings, gates, queue, ground, chance.clock),
        gates,
        queue,
        notices(settings, tariffs),
        parts.stock,
        parts.watches,
    )


def _show(telemetry: Telemetry, gates: Mapping[str, Gate]) -> None:
    """Say which tariffs are in force."""
    telemetry.renew()
    for name, gate in gates.items():
        tariff, monitor = gate.road.tariff, gate.road.monitor
        if isinstance(tariff, ConformalTariff) and monitor is not None:
            unit = tariff.calibration.unit_seconds
            telemetry.price(name, unit, at_minimum=unit <= MINIMUM_UNIT_SECONDS)
            telemetry.watch(name, tariff.measures, tariff.suspicion.edges, monitor)
