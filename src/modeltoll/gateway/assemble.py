"""The only place that picks implementations: settings in, a gateway out."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from ipaddress import ip_network
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.errors import ModeltollError, SettingsError
from modeltoll.gateway.admin import admin_application
from modeltoll.gateway.asgi import Door, House, application
from modeltoll.gateway.assemble_measures import MEASURES
from modeltoll.gateway.assemble_puzzles import build_menu, build_stock
from modeltoll.gateway.callers import Callers
from modeltoll.gateway.gate import SHADOW, Chance, Gate, Road, Subject
from modeltoll.gateway.monitor import Monitor
from modeltoll.gateway.page.site import Offer, OfferedModel, page_application
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
from modeltoll.pricing.unpriced import UnpricedTariff
from modeltoll.puzzle.seal import KeyRing
from modeltoll.records import Caller, MachineProfile

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from modeltoll.gateway.menu import Menu
    from modeltoll.gateway.protocols.protocol import ServingProtocol
    from modeltoll.gateway.settings import Settings
    from modeltoll.gateway.upstream import Upstream
    from modeltoll.leak.measure import LeakMeasure
    from modeltoll.ledger.ledger import Ledger
    from modeltoll.pricing.calibration import Calibration
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

PROTOCOLS: Mapping[str, Callable[[], ServingProtocol]] = {"oip": OpenInference}


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


def build_callers(settings: Settings) -> Callers:
    """The list at the door."""
    callers = settings.callers
    keys = {key.sha256: Caller(f"key:{key.name}", key.exempt, key.groups, key.discount) for key in callers.keys}
    proxies, wide = tuple(map(ip_network, callers.trusted_proxies)), callers.prefixes
    return Callers(keys, callers.anonymous, proxies, wide.ipv4, wide.ipv6)


def build_house(settings: Settings, gates: Mapping[str, Gate], upstream: Upstream, chance: Chance) -> House:
    """All that the public side needs."""
    limits = settings.limits
    door = Door(build_callers(settings), int(limits.body_mib * _MIB), limits.waiting, settings.cors.origins)
    return House(gates, OpenInference(), upstream, door, Telemetry(), chance)


def build_page(settings: Settings, house: House) -> Starlette:
    """The page to try the toll, for the operator's side."""
    routes = house.protocol.routes
    paths = ((name, routes.infer[0].format(model=name), routes.metadata.format(model=name)) for name in settings.models)
    return page_application(Offer(settings.listen, tuple(OfferedModel(*path) for path in paths)))


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


def _notices(settings: Settings, tariffs: Mapping[str, Tariff]) -> tuple[str, ...]:
    notices = []
    if not settings.secrets:
        notices.append("secrets: none is set; tokens of redeem mode are good only in this process, until it stops")
    for name, tariff in tariffs.items():
        if isinstance(tariff, ConformalTariff):
            notices += _tariff_notices(name, tariff.calibration, settings.models[name].weights)
        else:
            notices.append(f"models.{name}.tariff: there is none yet: rows are measured and logged without a price")
        if settings.models[name].mode == "shadow":
            notices.append(f"models.{name}.mode: shadow: everything is measured and logged, nothing is charged")
    return tuple(notices)


def _tariff_notices(name: str, calibration: Calibration, weights: Sequence[float]) -> Iterator[str]:
    for warning in calibration.report.warnings if calibration.report else ():
        yield f"models.{name}.tariff: {warning}"
    if not np.allclose(calibration.weights, weights):
        yield f"models.{name}.measures: the tariff was made with other weights, and its own are in force"


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
            tariffs[name] = build_tariff(settings, name)
        with faults.under(f"models.{name}.puzzle"):
            menus[name] = build_menu(model.puzzle, profile, stock)
    faults.settle()
    assert ledger is not None  # or there was a fault
    upstream, chance = build_upstream(settings), build_chance(settings, profile)
    priced = {name: tariff for name, tariff in tariffs.items() if isinstance(tariff, ConformalTariff)}
    monitors = {
        name: Monitor(name, Drift(tariff), chance.clock, Bend(tariff) if settings.models[name].choose_g else None)
        for name, tariff in priced.items()
    }
    roads = {name: build_road(settings, subject, tariffs[name], menus[name]) for name, subject in subjects.items()}
    gates = {
        name: Gate(replace(road, monitor=monitors.get(name)), upstream, ledger, chance) for name, road in roads.items()
    }
    house = build_house(settings, gates, upstream, chance)
    for name, tariff in priced.items():
        unit = tariff.calibration.unit_seconds
        house.telemetry.price(name, unit, at_minimum=unit <= MINIMUM_UNIT_SECONDS)
        house.telemetry.watch(name, tariff.measures, tariff.suspicion.edges, monitors[name])
    admin = admin_application(upstream, house.protocol.routes.ready, ledger, house.telemetry)
    admin.mount("/try", build_page(settings, house))
    return Assembly(application(house), admin, gates, ledger, upstream, _notices(settings, tariffs), stock)
