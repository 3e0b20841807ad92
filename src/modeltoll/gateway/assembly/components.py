"""What a gateway is put together from: everything that the settings name, or all that is wrong with it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modeltoll.errors import ModeltollError, SettingsError
from modeltoll.gateway.assembly.callers import build_roll, build_tokens
from modeltoll.gateway.assembly.measures import MEASURES
from modeltoll.gateway.assembly.protocols import PROTOCOLS, build_service, clashes
from modeltoll.gateway.assembly.puzzles import build_menu, build_stock
from modeltoll.gateway.assembly.shared import build_ground
from modeltoll.gateway.core.gate import SHADOW, Subject
from modeltoll.ledger.locate import locate
from modeltoll.pricing.calibration_file import load_calibration
from modeltoll.pricing.conformal import ConformalTariff
from modeltoll.pricing.unpriced import UnpricedTariff
from modeltoll.puzzle.machine_profile import DEFAULT_PROFILE, load_profile

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from modeltoll.gateway.assembly.gateway import Assembly, Ground
    from modeltoll.gateway.callers.identify import Credentials
    from modeltoll.gateway.callers.json_web_tokens import Tokens
    from modeltoll.gateway.callers.key_store import KeyRoll
    from modeltoll.gateway.core.puzzle_selector import Menu
    from modeltoll.gateway.file_watch import FileWatch
    from modeltoll.gateway.settings.load import Settings
    from modeltoll.leak.measure import LeakMeasure
    from modeltoll.pricing.tariff import Tariff
    from modeltoll.puzzle.precomputed import Stock
    from modeltoll.records import MachineProfile

__all__ = ["Parts", "build_parts", "build_profile", "build_subject", "build_tariff"]


@dataclass(frozen=True, slots=True)
class Parts:
    """All that was built, by the models' names where each has its own."""

    ground: Ground
    profile: MachineProfile
    subjects: Mapping[str, Subject]
    tariffs: Mapping[str, Tariff]
    menus: Mapping[str, Menu]
    stock: Stock | None
    roll: KeyRoll | None
    tokens: Tokens | None

    @property
    def credentials(self) -> Sequence[Credentials]:
        """The kinds of keys and tokens that there are, beside the keys of the settings."""
        return [kind for kind in (self.roll, self.tokens) if kind]

    @property
    def watches(self) -> tuple[FileWatch, ...]:
        """The files that are read again when they change."""
        return tuple(kind.watch for kind in (self.roll, self.tokens) if kind and kind.watch)


def build_parts(settings: Settings, before: Assembly | None) -> Parts:
    """Everything that the settings name, on the ground of the gateway ``before``, if there is one.

    Raises:
        SettingsError: all that cannot be built, at once.
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
    return Parts(ground, profile, subjects, tariffs, menus, stock, roll, tokens)


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


def build_profile(settings: Settings) -> MachineProfile:
    """The machine whose seconds all prices mean."""
    return load_profile(settings.profile) if settings.profile else DEFAULT_PROFILE


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
