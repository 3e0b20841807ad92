"""Builds the parts of a gateway that the settings name, and collects all errors."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modeltoll.errors import CalibrationError, ModeltollError, SettingsError
from modeltoll.gateway.assembly.callers import build_api_keys, build_jwt_credentials
from modeltoll.gateway.assembly.measures import build_measure
from modeltoll.gateway.assembly.model_server import build_upstream_headers
from modeltoll.gateway.assembly.protocols import build_protocol, build_service, path_conflicts
from modeltoll.gateway.assembly.puzzles import build_precomputed_pool, build_puzzle_selector
from modeltoll.gateway.assembly.shared import build_shared_resources
from modeltoll.gateway.core.request import SHADOW, ServedModel
from modeltoll.gateway.upstream.upstream_headers import UpstreamHeaders
from modeltoll.ledger.from_url import ledger_from_url
from modeltoll.pricing.calibration_file import load_calibration
from modeltoll.pricing.conformal_tariff import ConformalTariff
from modeltoll.pricing.unpriced_tariff import UnpricedTariff
from modeltoll.puzzle.machine_profile import DEFAULT_PROFILE, load_profile

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from modeltoll.gateway.assembly.gateway import Gateway, SharedResources
    from modeltoll.gateway.callers.api_keys import ApiKeys
    from modeltoll.gateway.callers.identify import Credentials
    from modeltoll.gateway.callers.json_web_tokens import JwtCredentials
    from modeltoll.gateway.callers.key_set_url import KeySetUrl
    from modeltoll.gateway.core.puzzle_selector import PuzzleSelector
    from modeltoll.gateway.file_watch import Watch
    from modeltoll.gateway.protocols.protocol import ServingProtocol
    from modeltoll.gateway.settings.gateway import Settings
    from modeltoll.leak.measure import LeakMeasure
    from modeltoll.pricing.tariff import Tariff
    from modeltoll.puzzle.precomputed import PrecomputedPool
    from modeltoll.records import MachineProfile

__all__ = ["Components", "build_components", "build_profile", "build_served_model", "build_tariff"]


@dataclass(frozen=True, slots=True)
class Components:
    """The built parts of a gateway; mappings are by the names of models."""

    shared: SharedResources
    profile: MachineProfile
    served_models: Mapping[str, ServedModel]
    tariffs: Mapping[str, Tariff]
    selectors: Mapping[str, PuzzleSelector]
    precomputed: PrecomputedPool | None
    api_keys: ApiKeys | None
    jwt_credentials: JwtCredentials | None
    upstream_headers: UpstreamHeaders

    @property
    def credentials(self) -> Sequence[Credentials]:
        """The sources of credentials, beside the keys in the settings."""
        return [kind for kind in (self.api_keys, self.jwt_credentials) if kind]

    @property
    def watches(self) -> tuple[Watch, ...]:
        """The files that are read again when they change, and the set of keys at a URL."""
        readers = (self.api_keys, self.jwt_credentials, self.upstream_headers)
        watches: list[Watch] = [reader.file_watch for reader in readers if reader and reader.file_watch]
        return (*watches, self.key_set) if self.key_set else tuple(watches)

    @property
    def key_set(self) -> KeySetUrl | None:
        """The keys of tokens, where they are at a URL."""
        return self.jwt_credentials.key_set if self.jwt_credentials else None


def build_components(settings: Settings, before: Gateway | None, workers: int = 1) -> Components:
    """Everything that the settings name. The shared resources are those of the gateway ``before``, if there is one.

    ``workers``: the processes that serve together, of a gateway without one before it.

    Raises:
        SettingsError: everything that cannot be built, at once.
    """
    faults = _ErrorCollector()
    profile, served_models, tariffs, selectors = DEFAULT_PROFILE, {}, {}, {}
    shared = before.shared if before else None
    precomputed = build_precomputed_pool(settings, shared.workers if shared else workers)
    api_keys: ApiKeys | None = None
    jwt_credentials: JwtCredentials | None = None
    upstream_headers = UpstreamHeaders({})
    with faults.under("callers.key_file"):
        api_keys = build_api_keys(settings)
    with faults.under("callers.jwt"):
        jwt_credentials = build_jwt_credentials(settings, before.key_set if before else None)
    with faults.under("upstream"):
        upstream_headers = build_upstream_headers(settings.upstream)
    with faults.under("profile"):
        profile = build_profile(settings)
    with faults.under("ledger.url"):
        shared = shared or build_shared_resources(settings, ledger_from_url(settings.ledger.url), workers)
    for name, model in settings.models.items():
        with faults.under(f"models.{name}"):
            served_models[name] = build_served_model(settings, name)
        with faults.under(f"models.{name}.tariff"):
            tariffs[name] = build_tariff(settings, name)
        with faults.under(f"models.{name}.puzzle"):
            selectors[name] = build_puzzle_selector(model.puzzle, profile, precomputed)
    faults.messages += path_conflicts(served_models)
    faults.raise_collected()
    assert shared is not None  # or there was a fault
    return Components(
        shared,
        profile,
        served_models,
        tariffs,
        selectors,
        precomputed,
        api_keys,
        jwt_credentials,
        upstream_headers,
    )


def build_served_model(settings: Settings, name: str) -> ServedModel:
    """A model with its protocol and measures.

    Raises:
        SettingsError: every measure of it that cannot be built, and its protocol where that cannot.
    """
    model, faults = settings.models[name], _ErrorCollector()
    measures: list[LeakMeasure] = []
    for number, measure in enumerate(model.measures):
        with faults.under(f"models.{name}.measures.{number}", named=True):
            measures.append(build_measure(measure))
    protocol: ServingProtocol | None = None
    with faults.under(f"models.{name}.protocol", named=True):
        protocol = build_protocol(model)
    faults.raise_collected()
    assert protocol is not None  # or there was a fault
    return ServedModel(build_service(name, model, settings.limits.rows), protocol, tuple(measures))


def build_tariff(settings: Settings, name: str) -> Tariff:
    """A model's tariff. A model in shadow mode needs no file of one: its rows are measured and not priced.

    Raises:
        CalibrationError: the file cannot be read, or is of another model or other measures.
    """
    model = settings.models[name]
    measures = tuple(measure.name for measure in model.measures)
    if model.mode == SHADOW and not model.tariff.exists():
        return UnpricedTariff(measures)
    if not model.tariff.exists():
        raise CalibrationError(f"{model.tariff} does not exist; make it with modeltoll calibrate")
    return ConformalTariff(load_calibration(model.tariff, model=name, measures=measures))


def build_profile(settings: Settings) -> MachineProfile:
    """The machine profile that defines the reference second."""
    return load_profile(settings.profile) if settings.profile else DEFAULT_PROFILE


class _ErrorCollector:
    """Collects errors, so that all of them are reported at once."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    @contextmanager
    def under(self, setting: str, *, named: bool = False) -> Iterator[None]:
        """Note a fault of what is built here under its setting's name, and go on.

        The faults of a ``SettingsError`` name their settings themselves; with ``named`` they get this name too.
        """
        try:
            yield
        except SettingsError as error:
            self.messages += [f"{setting}: {fault}" for fault in error.faults] if named else error.faults
        except ModeltollError as error:
            self.messages.append(f"{setting}: {error}")

    def raise_collected(self) -> None:
        """Raise what was collected."""
        if self.messages:
            raise SettingsError(self.messages)
