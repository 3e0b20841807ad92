"""The only place that picks implementations: settings in, a gateway out."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.errors import ModeltollError, SettingsError
from modeltoll.gateway.asgi import Door, House, application
from modeltoll.gateway.assemble_admin import build_admin
from modeltoll.gateway.assemble_callers import build_callers, build_entrance, build_roll, build_tokens
from modeltoll.gateway.assemble_ground import build_ground, build_monitor, traced
from modeltoll.gateway.assemble_measures import MEASURES
from modeltoll.gateway.assemble_protocols import PROTOCOLS, build_service, clashes
from modeltoll.gateway.assemble_puzzles import build_menu, build_stock
from modeltoll.gateway.assembly import Assembly
from modeltoll.gateway.gate import SHADOW, Gate, Road, Subject
from modeltoll.gateway.notices import notices
from modeltoll.gateway.queueing import Queue
from modeltoll.gateway.settings import Settings
from modeltoll.gateway.settings_values import IN_PROCESS
from modeltoll.gateway.telemetry import Telemetry
from modeltoll.gateway.tolls import Chance
from modeltoll.gateway.upstream import HttpUpstream
from modeltoll.gateway.witness import Witnessed
from modeltoll.ledger.locate import locate
from modeltoll.pricing.calibration import MINIMUM_UNIT_SECONDS
from modeltoll.pricing.calibration_file import load_calibration
from modeltoll.pricing.conformal import ConformalTariff
from modeltoll.pricing.reference import DEFAULT_PROFILE, load_profile
from modeltoll.pricing.unpriced import UnpricedTariff
from modeltoll.puzzle.seal import KeyRing
from modeltoll.records import MachineProfile

if TYPE_CHECKING:
    from modeltoll.gateway.callers import Credentials
    from modeltoll.gateway.filewatch import FileWatch
    from modeltoll.gateway.keyroll import KeyRoll
    from modeltoll.gateway.menu import Menu
    from modeltoll.gateway.tokens import Tokens
    from modeltoll.gateway.tracing import Tracing
    from modeltoll.gateway.upstream import Upstream
    from modeltoll.leak.measure import LeakMeasure
    from modeltoll.pricing.tariff import Tariff

__all__ = [
    "Assembly",
    "assemble",
    "build_chance",
    "build_house",
    "build_road",
    "build_subject",
    "build_tariff",
    "build_upstream",
]

_KEY_BYTES = 32
_MIB = 1 << 20


class _Faults:
    """Collects what is wrong, so that all of it can be said at once."""

    def __init__(self) -> None:
        self.sentences: list[str] = []

    @contextmanager
    def under(self, setting: str) -> Iterator[None]:
        """Note a fault of what is built here under its setting's name, and go on."""
        try:
            yield
        except SettingsError as error:
            self.sentences += error.faults
        except ModeltollError as error:
            self.sentences.append(f"{setting}: {error}")

    def settle(self) -> None:
        """Raise what was collected."""
        if self.sentences:
            raise SettingsError(self.sentences)


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


def build_subject(settings: Settings, name: str) -> Subject:
    """How a model is asked and measured.

    Raises:
        SettingsError: every measure of it that cannot be built.
    """
    model, faults = settings.models[name], _Faults()
    measures: list[LeakMeasure] = []
    for number, measure in enumerate(model.measures):
        with faults.under(f"models.{name}.measures.{number}"):
            measures.append(MEASURES[measure.name](measure))
    faults.settle()
    service = build_service(name, model, settings.limits.rows)
    return Subject(service, PROTOCOLS[model.protocol](model), tuple(measures))


def build_tariff(settings: Settings, name: str) -> Tariff:
    """A model's tariff; without a file of one, a model in shadow mode is measured all the same.

    Raises:
        CalibrationError: the file cannot be read, or is of another model or other measures.
    """
    model = settings.models[name]
    measures = tuple(measure.name for measure in model.measures)
    if model.mode == SHADOW and not model.tariff.exists():
        return UnpricedTariff(measures)
    return ConformalTariff(load_calibration(model.tariff, model=name, measures=measures))


def build_road(settings: Settings, subject: Subject, tariff: Tariff, menu: Menu) -> Road:
    """All that one model's requests meet on their way."""
    model = settings.models[subject.service.model]
    return Road(subject, tariff, menu, mode=model.mode, without_ledger=settings.ledger.when_down == "release")


def build_profile(settings: Settings) -> MachineProfile:
    """The machine whose seconds all prices mean."""
    return load_profile(settings.profile) if settings.profile else DEFAULT_PROFILE


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


def _follow(telemetry: Telemetry, queue: Queue, roll: KeyRoll | None, watches: Sequence[FileWatch]) -> None:
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
    faults = _Faults()
    profile, subjects, tariffs, menus = DEFAULT_PROFILE, {}, {}, {}
    stock = build_stock(settings)
    ground = before.ground if before else None
    roll: KeyRoll | None = None
    tokens: Tokens | None = None
    with faults.under("callers.key_file"):
        roll = build_roll(settings)
    with faults.under("callers.jwt"):
        tokens = build_tokens(settings)
    with faults.under("profile"):
        profile = build_profile(settings)
    with faults.under("ledger.url"):
        ground = ground or build_ground(settings, locate(settings.ledger.url))
    for name, model in settings.models.items():
        with faults.under(f"models.{name}"):
            subjects[name] = build_subject(settings, name)
        with faults.under(f"models.{name}.tariff"):
            tariffs[name] = build_tariff(settings, name)
        with faults.under(f"models.{name}.puzzle"):
            menus[name] = build_menu(model.puzzle, profile, stock)
    faults.sentences += clashes(subjects)
    faults.settle()
    assert ground is not None  # or there was a fault
    queue = build_queue(settings, upstream or build_upstream(settings, ground.witness.tracing))
    chance = build_chance(settings, profile, before.ring if before else None)
    monitors = {
        name: build_monitor(settings, tariff, before)
        for name, tariff in tariffs.items()
        if isinstance(tariff, ConformalTariff)
    }
    entrance = build_entrance(settings, before)
    roads = {name: build_road(settings, subject, tariffs[name], menus[name]) for name, subject in subjects.items()}
    gates = {
        name: Gate(replace(road, monitor=monitors.get(name), entrance=entrance), queue, ground.ledger, chance)
        for name, road in roads.items()
    }
    house = build_house(settings, gates, queue, chance, [kind for kind in (roll, tokens) if kind])
    house = replace(house, telemetry=ground.telemetry)
    watches = tuple(kind.watch for kind in (roll, tokens) if kind and kind.watch)
    _follow(house.telemetry, queue, roll, watches)
    _show(house.telemetry, gates)
    admin = build_admin(settings, gates, queue, ground, chance.clock)
    return Assembly(
        settings,
        ground,
        chance.ring,
        Witnessed(application(house), ground.witness),
        admin,
        gates,
        queue,
        notices(settings, tariffs),
        stock,
        watches,
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
