"""The only place that picks implementations: settings in, a gateway out."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from ipaddress import ip_network
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from modeltoll import wire
from modeltoll.errors import ModeltollError, SettingsError
from modeltoll.gateway.admin import admin_application
from modeltoll.gateway.asgi import Door, House, application
from modeltoll.gateway.assemble_measures import MEASURES
from modeltoll.gateway.callers import Callers
from modeltoll.gateway.gate import Chance, Gate, Road, Subject
from modeltoll.gateway.menu import Menu
from modeltoll.gateway.monitor import Monitor
from modeltoll.gateway.protocols.oip import OpenInference
from modeltoll.gateway.protocols.protocol import Service
from modeltoll.gateway.telemetry import Telemetry
from modeltoll.gateway.upstream import HttpUpstream
from modeltoll.ledger.locate import locate
from modeltoll.pricing.bend import Bend
from modeltoll.pricing.calibration import MINIMUM_UNIT_SECONDS
from modeltoll.pricing.calibration_file import load_calibration
from modeltoll.pricing.conformal import ConformalTariff
from modeltoll.pricing.drift import Drift
from modeltoll.pricing.reference import DEFAULT_PROFILE, load_profile
from modeltoll.puzzle.counter import Argon2idCounter, Sha256Counter
from modeltoll.puzzle.hashcash import Hashcash
from modeltoll.puzzle.seal import KeyRing
from modeltoll.puzzle.stock import STOCKED_KIB, Stock
from modeltoll.puzzle.timelock import TimeLock, Trapdoor
from modeltoll.records import Caller, MachineProfile

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from modeltoll.gateway.protocols.protocol import ServingProtocol
    from modeltoll.gateway.settings import PuzzleSettings, Settings
    from modeltoll.gateway.upstream import Upstream
    from modeltoll.leak.measure import LeakMeasure
    from modeltoll.ledger.ledger import Ledger
    from modeltoll.pricing.tariff import Tariff
    from modeltoll.puzzle.counter import Disclose
    from modeltoll.puzzle.puzzle import Puzzle

__all__ = [
    "Assembly",
    "assemble",
    "build_chance",
    "build_house",
    "build_menu",
    "build_road",
    "build_stock",
    "build_subject",
    "build_upstream",
]

_KEY_BYTES = 32
_MIB = 1 << 20

PROTOCOLS: Mapping[str, Callable[[], ServingProtocol]] = {"oip": OpenInference}


class _Told(TypedDict):
    """What hidden counters tell of their work."""

    disclose: Disclose
    blind_seconds: float


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


def build_upstream(settings: Settings) -> HttpUpstream:
    """The model server's client."""
    upstream = settings.upstream
    return HttpUpstream(
        upstream.url,
        timeout=upstream.timeout_seconds,
        connections=upstream.connections,
        max_body=int(upstream.max_answer_mib * _MIB),
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
    output = model.output
    service = Service(
        name, output.name, output.kind, output.classes, unmeasured=output.unmeasured, max_rows=settings.limits.rows
    )
    return Subject(service, PROTOCOLS[model.protocol](), tuple(measures))


def build_menu(settings: PuzzleSettings, profile: MachineProfile, stock: Stock | None = None) -> Menu:
    """A model's puzzles. ``stock`` holds argon2id's evaluations made ahead.

    Raises:
        SettingsError: a time lock is asked for, and the profile does not know how fast its machine squares.
    """
    if wire.TIMELOCK in settings.allow and profile.squarings <= 0:
        raise SettingsError(["profile: it has no squarings, which a time lock needs; modeltoll bench-puzzle --save"])
    told: _Told = {"disclose": settings.disclose, "blind_seconds": settings.blind_seconds}
    makers: Mapping[str, Callable[[], Puzzle]] = {
        wire.ARGON2ID: lambda: Argon2idCounter(
            profile,
            max_memory_kib=settings.max_memory_kib,
            suspected_memory_kib=settings.suspected_memory_kib,
            stock=stock,
            **told,
        ),
        wire.SHA256: lambda: Sha256Counter(profile, **told),
        wire.HASHCASH: lambda: Hashcash(profile),
        wire.HASHCASH_SHA1: lambda: Hashcash(profile, digest="sha1", bits_only=True),
        wire.TIMELOCK: lambda: TimeLock(profile, Trapdoor.draw()),
    }
    return Menu({name: makers[name]() for name in settings.allow}, settings.modes, settings.sha256_below_ms / 1000)


def build_stock(settings: Settings) -> Stock | None:
    """What is made ahead for the puzzles of all models, or None where none of them takes so much memory."""
    highest = max(model.puzzle.highest_memory_kib for model in settings.models.values())
    memories = tuple(memory for memory in STOCKED_KIB if memory <= highest)
    return Stock(random.SystemRandom(), memories_kib=memories) if memories else None


def build_road(settings: Settings, subject: Subject, tariff: Tariff, menu: Menu) -> Road:
    """All that one model's requests meet on their way."""
    model = settings.models[subject.service.model]
    return Road(subject, tariff, menu, mode=model.mode, without_ledger=settings.ledger.when_down == "release")


def build_profile(settings: Settings) -> MachineProfile:
    """The machine whose seconds all prices mean."""
    return load_profile(settings.profile) if settings.profile else DEFAULT_PROFILE


def build_chance(settings: Settings, profile: MachineProfile) -> Chance:
    """The real clock, the system's randomness, and the keys of the settings, or keys of this process alone."""
    keys = tuple(bytes.fromhex(secret.get_secret_value()) for secret in settings.secrets)
    return Chance(
        clock=time.time,
        rng=random.SystemRandom(),
        generator=np.random.default_rng(secrets.randbits(128)),
        ring=KeyRing(keys or (secrets.token_bytes(_KEY_BYTES),)),
        profile=profile,
    )


def build_callers(settings: Settings) -> Callers:
    """The list at the door."""
    callers = settings.callers
    keys = {key.sha256: Caller(f"key:{key.name}", key.exempt, key.groups, key.discount) for key in callers.keys}
    proxies, wide = tuple(map(ip_network, callers.trusted_proxies)), callers.prefixes
    return Callers(keys, callers.anonymous, proxies, wide.ipv4, wide.ipv6)


def build_house(settings: Settings, gates: Mapping[str, Gate], upstream: Upstream, chance: Chance) -> House:
    """All that the public side needs."""
    door = Door(build_callers(settings), int(settings.limits.body_mib * _MIB), settings.limits.waiting)
    return House(gates, OpenInference(), upstream, door, Telemetry(), chance)


@dataclass(frozen=True, slots=True)
class Assembly:
    """A gateway, ready to be opened. ``notices`` are what its operator should read at start."""

    public: Starlette
    admin: Starlette
    gates: Mapping[str, Gate]
    ledger: Ledger
    upstream: HttpUpstream
    notices: tuple[str, ...]
    stock: Stock | None = None

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Open ledger and upstream, and keep the stock of puzzles full, for as long as the block lasts."""
        await self.ledger.open()
        try:
            await self.upstream.open()
            try:
                with self.stock.kept() if self.stock else nullcontext():
                    yield
            finally:
                await self.upstream.close()
        finally:
            await self.ledger.close()


def _notices(settings: Settings, tariffs: Mapping[str, ConformalTariff]) -> tuple[str, ...]:
    notices = []
    if not settings.secrets:
        notices.append("secrets: none is set; tokens of redeem mode are good only in this process, until it stops")
    for name, tariff in tariffs.items():
        report = tariff.calibration.report
        notices += [f"models.{name}.tariff: {warning}" for warning in (report.warnings if report else ())]
        if not np.allclose(tariff.calibration.weights, settings.models[name].weights):
            notices.append(f"models.{name}.measures: the tariff was made with other weights, and its own are in force")
        if settings.models[name].mode == "shadow":
            notices.append(f"models.{name}.mode: shadow: everything is measured and logged, nothing is charged")
    return tuple(notices)


def assemble(settings: Settings) -> Assembly:
    """Build a gateway.

    Raises:
        SettingsError: everything that the settings name and that cannot be built, at once.
    """
    faults = _Faults()
    profile, subjects, tariffs, menus = DEFAULT_PROFILE, {}, {}, {}
    stock = build_stock(settings)
    ledger: Ledger | None = None
    with faults.under("profile"):
        profile = build_profile(settings)
    with faults.under("ledger.url"):
        ledger = locate(settings.ledger.url)
    for name, model in settings.models.items():
        with faults.under(f"models.{name}"):
            subjects[name] = build_subject(settings, name)
        with faults.under(f"models.{name}.tariff"):
            measures = tuple(measure.name for measure in model.measures)
            tariffs[name] = ConformalTariff(load_calibration(model.tariff, model=name, measures=measures))
        with faults.under(f"models.{name}.puzzle"):
            menus[name] = build_menu(model.puzzle, profile, stock)
    faults.settle()
    assert ledger is not None  # or there was a fault
    upstream, chance = build_upstream(settings), build_chance(settings, profile)
    monitors = {
        name: Monitor(name, Drift(tariff), chance.clock, Bend(tariff) if settings.models[name].choose_g else None)
        for name, tariff in tariffs.items()
    }
    roads = {name: build_road(settings, subject, tariffs[name], menus[name]) for name, subject in subjects.items()}
    gates = {
        name: Gate(replace(road, monitor=monitors[name]), upstream, ledger, chance) for name, road in roads.items()
    }
    house = build_house(settings, gates, upstream, chance)
    for name, tariff in tariffs.items():
        unit = tariff.calibration.unit_seconds
        house.telemetry.price(name, unit, at_minimum=unit <= MINIMUM_UNIT_SECONDS)
        house.telemetry.watch(name, tariff.measures, tariff.suspicion.edges, monitors[name])
    admin = admin_application(upstream, house.protocol.routes.ready, ledger, house.telemetry)
    return Assembly(application(house), admin, gates, ledger, upstream, _notices(settings, tariffs), stock)
