"""The only place that picks implementations: settings in, a gateway out."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.errors import ModeltollError, SettingsError
from modeltoll.gateway.admin import admin_application
from modeltoll.gateway.asgi import Door, House, application
from modeltoll.gateway.assemble_callers import build_callers, build_entrance, build_roll, build_tokens
from modeltoll.gateway.assemble_measures import MEASURES
from modeltoll.gateway.assemble_protocols import PROTOCOLS, build_service, clashes
from modeltoll.gateway.assemble_puzzles import build_menu, build_stock
from modeltoll.gateway.dashboard.shown import Shown
from modeltoll.gateway.dashboard.site import dashboard_application
from modeltoll.gateway.gate import SHADOW, Gate, Road, Subject
from modeltoll.gateway.monitor import Monitor
from modeltoll.gateway.notices import notices
from modeltoll.gateway.page.site import Offer, OfferedModel, page_application
from modeltoll.gateway.queueing import Queue
from modeltoll.gateway.settings import Settings
from modeltoll.gateway.settings_values import IN_PROCESS
from modeltoll.gateway.telemetry import Telemetry
from modeltoll.gateway.tolls import Chance
from modeltoll.gateway.upstream import HttpUpstream
from modeltoll.ledger.locate import locate
from modeltoll.pricing.bend import Bend
from modeltoll.pricing.calibration import MINIMUM_UNIT_SECONDS
from modeltoll.pricing.calibration_file import load_calibration
from modeltoll.pricing.conformal import ConformalTariff
from modeltoll.pricing.drift import Drift
from modeltoll.pricing.reference import DEFAULT_PROFILE, load_profile
from modeltoll.pricing.unpriced import UnpricedTariff
from modeltoll.puzzle.seal import KeyRing
from modeltoll.records import MachineProfile

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from modeltoll.gateway.callers import Credentials
    from modeltoll.gateway.filewatch import FileWatch
    from modeltoll.gateway.keyroll import KeyRoll
    from modeltoll.gateway.menu import Menu
    from modeltoll.gateway.tokens import Tokens
    from modeltoll.gateway.upstream import Upstream
    from modeltoll.leak.measure import LeakMeasure
    from modeltoll.ledger.ledger import Ledger
    from modeltoll.pricing.tariff import Tariff
    from modeltoll.puzzle.stock import Stock

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


def build_upstream(settings: Settings) -> HttpUpstream:
    """The model server's client.

    Raises:
        SettingsError: the model is the application that the gate is built into; there is no server of its own.
    """
    upstream = settings.upstream
    if upstream.url == IN_PROCESS:
        raise SettingsError([f"upstream.url: {IN_PROCESS} is for TollMiddleware; write the model server's address"])
    return HttpUpstream(
        upstream.url,
        timeout=upstream.timeout_seconds,
        connections=upstream.connections,
        max_body=int(upstream.max_answer_mib * _MIB),
    )


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


def build_page(settings: Settings, subjects: Mapping[str, Subject]) -> Starlette:
    """The page to try the toll, for the operator's side."""
    models = tuple(OfferedModel(name, each.infer_path, each.metadata_path) for name, each in subjects.items())
    return page_application(Offer(settings.listen, models))


@dataclass(frozen=True, slots=True)
class Assembly:
    """A gateway, ready to be opened. ``notices`` are what its operator should read at start."""

    public: Starlette
    admin: Starlette
    gates: Mapping[str, Gate]
    ledger: Ledger
    upstream: Upstream
    notices: tuple[str, ...]
    stock: Stock | None = None
    watches: tuple[FileWatch, ...] = ()

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Open ledger and upstream, keep the stock of puzzles full and the keys up to date, while the block lasts."""
        async with AsyncExitStack() as stack:
            await self.ledger.open()
            stack.push_async_callback(self.ledger.close)
            await self.upstream.open()
            stack.push_async_callback(self.upstream.close)
            if self.stock:
                stack.enter_context(self.stock.kept())
            for watch in self.watches:
                await stack.enter_async_context(watch.kept())
            yield


def _follow(telemetry: Telemetry, queue: Queue, roll: KeyRoll | None, watches: Sequence[FileWatch]) -> None:
    telemetry.follow("upstream_inside", "Requests that are with the model server", lambda: queue.inside)
    telemetry.follow("upstream_waiting", "Requests that wait for the model server", lambda: queue.waiting)
    telemetry.follow(
        "key_files_broken", "Files of keys that cannot be used as they are now", lambda: sum(w.broken for w in watches)
    )
    if roll:
        telemetry.follow("keys", "Keys of the key file that are in force", lambda: roll.good)


def assemble(settings: Settings, upstream: Upstream | None = None) -> Assembly:
    """Build a gateway, in front of ``upstream`` if that is given, else of the server that the settings name.

    Raises:
        SettingsError: everything that the settings name and that cannot be built, at once.
    """
    faults = _Faults()
    profile, subjects, tariffs, menus = DEFAULT_PROFILE, {}, {}, {}
    stock = build_stock(settings)
    ledger: Ledger | None = None
    roll: KeyRoll | None = None
    tokens: Tokens | None = None
    with faults.under("callers.key_file"):
        roll = build_roll(settings)
    with faults.under("callers.jwt"):
        tokens = build_tokens(settings)
    with faults.under("profile"):
        profile = build_profile(settings)
    with faults.under("ledger.url"):
        ledger = locate(settings.ledger.url)
    for name, model in settings.models.items():
        with faults.under(f"models.{name}"):
            subjects[name] = build_subject(settings, name)
        with faults.under(f"models.{name}.tariff"):
            tariffs[name] = build_tariff(settings, name)
        with faults.under(f"models.{name}.puzzle"):
            menus[name] = build_menu(model.puzzle, profile, stock)
    faults.sentences += clashes(subjects)
    faults.settle()
    assert ledger is not None  # or there was a fault
    queue, chance = build_queue(settings, upstream or build_upstream(settings)), build_chance(settings, profile)
    priced = {name: tariff for name, tariff in tariffs.items() if isinstance(tariff, ConformalTariff)}
    monitors = {
        name: Monitor(name, Drift(tariff), chance.clock, Bend(tariff) if settings.models[name].choose_g else None)
        for name, tariff in priced.items()
    }
    entrance = build_entrance(settings)
    roads = {name: build_road(settings, subject, tariffs[name], menus[name]) for name, subject in subjects.items()}
    gates = {
        name: Gate(replace(road, monitor=monitors.get(name), entrance=entrance), queue, ledger, chance)
        for name, road in roads.items()
    }
    house = build_house(settings, gates, queue, chance, [kind for kind in (roll, tokens) if kind])
    watches = tuple(kind.watch for kind in (roll, tokens) if kind and kind.watch)
    _follow(house.telemetry, queue, roll, watches)
    for name, tariff in priced.items():
        unit = tariff.calibration.unit_seconds
        house.telemetry.price(name, unit, at_minimum=unit <= MINIMUM_UNIT_SECONDS)
        house.telemetry.watch(name, tariff.measures, tariff.suspicion.edges, monitors[name])
    admin = admin_application(queue, next(iter(subjects.values())).ready_path, ledger, house.telemetry)
    admin.mount("/try", build_page(settings, subjects))
    shown = [Shown(name, settings.models[name].mode, tariff, monitors.get(name)) for name, tariff in tariffs.items()]
    admin.mount("/dashboard", dashboard_application(ledger, shown, chance.clock))
    return Assembly(application(house), admin, gates, ledger, queue, notices(settings, tariffs), stock, watches)
