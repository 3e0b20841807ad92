"""Frozen settings from YAML and environment, all faults reported at once."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from modeltoll.errors import SettingsError

__all__ = [
    "Address",
    "CallerSettings",
    "KeySettings",
    "LedgerSettings",
    "LimitSettings",
    "MeasureSettings",
    "ModelSettings",
    "OutputSettings",
    "PuzzleSettings",
    "Settings",
    "UpstreamSettings",
    "load_settings",
]

_SHA256_HEX = re.compile(r"[0-9a-f]{64}")
_KEY_BYTES = 32


def _address(text: str) -> str:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 <= int(port) < 65536:
        raise ValueError("is not HOST:PORT, such as 127.0.0.1:8080")
    return text


def _http_url(text: str) -> str:
    if not re.match(r"https?://[^/\s]+", text):
        raise ValueError("is not an http:// or https:// address, such as http://127.0.0.1:8000")
    return text


def _network(text: str) -> str:
    ipaddress.ip_network(text)
    return text


def _model_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", text):
        raise ValueError("is not a model's name: letters, digits, '_', '.' and '-', at most 64")
    return text


def _hashed(text: str) -> str:
    if not _SHA256_HEX.fullmatch(text):
        raise ValueError("is not a SHA-256 in hexadecimal; make one with: printf %s KEY | sha256sum")
    return text


Address = Annotated[str, AfterValidator(_address)]
HttpUrl = Annotated[str, AfterValidator(_http_url)]
Network = Annotated[str, AfterValidator(_network)]
ModelName = Annotated[str, AfterValidator(_model_name)]
HashedKey = Annotated[str, AfterValidator(_hashed)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class UpstreamSettings(_Part):
    """The model server."""

    url: HttpUrl
    timeout_seconds: float = Field(30.0, gt=0)
    connections: int = Field(64, ge=1)
    max_answer_mib: float = Field(64.0, gt=0)


class LedgerSettings(_Part):
    """Where callers are remembered, and what happens while that does not answer."""

    url: str = "sqlite:///modeltoll.db"
    when_down: Literal["refuse", "release"] = "refuse"


class KeySettings(_Part):
    """One API key, kept as its SHA-256."""

    name: str = Field(pattern=r"^[\w.@-]{1,64}$")
    sha256: HashedKey
    exempt: bool = False


class CallerSettings(_Part):
    """Who may ask."""

    anonymous: bool = True
    keys: tuple[KeySettings, ...] = ()
    trusted_proxies: tuple[Network, ...] = ()

    @model_validator(mode="after")
    def _each_once(self) -> CallerSettings:
        for what in ("name", "sha256"):
            values = [getattr(key, what) for key in self.keys]
            if len(set(values)) != len(values):
                raise ValueError(f"keys: two keys have the same {what}")
        if not self.anonymous and not self.keys:
            raise ValueError(
                "anonymous is false and no keys are listed: nobody could ask; list keys or allow anonymous"
            )
        return self


class LimitSettings(_Part):
    """What one request, and all waiting requests together, may take."""

    body_mib: float = Field(8.0, gt=0)
    rows: int = Field(1024, ge=1)
    waiting: int = Field(256, ge=1)


class OutputSettings(_Part):
    """The output that shows the model, and what it holds."""

    name: str
    kind: Literal["probabilities", "logits", "labels"]
    classes: int | None = Field(None, ge=2)

    @model_validator(mode="after")
    def _labels_need_classes(self) -> OutputSettings:
        if self.kind == "labels" and self.classes is None:
            raise ValueError("kind is labels: say how many classes there are")
        return self


class MeasureSettings(_Part):
    """One leak measure: its file where it has one, its number of neighbours, its weight in the price."""

    name: Literal["entropy", "gap", "novelty", "pate", "pknn"]
    weight: float = Field(1.0, gt=0)
    file: Path | None = None
    neighbours: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _files(self) -> MeasureSettings:
        if self.name in {"novelty", "pate", "pknn"} and self.file is None:
            raise ValueError(f"{self.name} needs 'file'")
        if self.name in {"entropy", "gap"} and (self.file or self.neighbours):
            raise ValueError(f"{self.name} takes neither 'file' nor 'neighbours'")
        return self


class PuzzleSettings(_Part):
    """Which puzzles a model's tolls use."""

    allow: tuple[Literal["argon2id", "sha256", "hashcash"], ...] = Field(("argon2id", "sha256"), min_length=1)
    modes: tuple[Literal["sealed", "redeem"], ...] = Field(("sealed", "redeem"), min_length=1)
    disclose: Literal["exact", "coarse"] = "coarse"
    sha256_below_ms: float = Field(20.0, ge=0)
    max_memory_mib: float = Field(8.0, ge=0.25, le=256)

    @model_validator(mode="after")
    def _sealed_needs_a_counter(self) -> PuzzleSettings:
        if "sealed" in self.modes and set(self.allow) == {"hashcash"}:
            raise ValueError("hashcash cannot seal an answer: allow argon2id or sha256, or set modes to [redeem]")
        return self


class ModelSettings(_Part):
    """One model behind the gateway."""

    protocol: Literal["oip"] = "oip"
    mode: Literal["enforce", "shadow"] = "enforce"
    tariff: Path
    output: OutputSettings
    measures: tuple[MeasureSettings, ...] = Field(min_length=1)
    puzzle: PuzzleSettings = PuzzleSettings()

    @property
    def weights(self) -> tuple[float, ...]:
        """The measures' weights as shares that sum to 1."""
        whole = sum(measure.weight for measure in self.measures)
        return tuple(measure.weight / whole for measure in self.measures)

    @model_validator(mode="after")
    def _each_measure_once(self) -> ModelSettings:
        names = [measure.name for measure in self.measures]
        if len(set(names)) != len(names):
            raise ValueError("measures: one measure is listed twice")
        return self


class Settings(BaseSettings):
    """The gateway's settings. ``MODELTOLL_UPSTREAM__URL`` and the like override the file."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix="MODELTOLL_",
        env_nested_delimiter="__",
        nested_model_default_partial_update=True,
    )

    listen: Address = "127.0.0.1:8080"
    admin: Address = "127.0.0.1:9090"
    upstream: UpstreamSettings
    ledger: LedgerSettings = LedgerSettings()
    callers: CallerSettings = CallerSettings()
    limits: LimitSettings = LimitSettings()
    secrets: tuple[SecretStr, ...] = ()
    profile: Path | None = None
    models: Mapping[ModelName, ModelSettings] = Field(min_length=1)

    @model_validator(mode="after")
    def _secrets_are_keys(self) -> Settings:
        for secret in self.secrets:
            text = secret.get_secret_value()
            if not _SHA256_HEX.fullmatch(text):
                raise ValueError(
                    f"secrets: each is {_KEY_BYTES} random bytes in hexadecimal: openssl rand -hex {_KEY_BYTES}"
                )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003  the signature is pydantic's
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment before file."""
        return env_settings, init_settings


def _faults(error: ValidationError) -> list[str]:
    faults = []
    for fault in error.errors(include_url=False, include_input=False):
        where = ".".join(str(step) for step in fault["loc"]) or "settings"
        faults.append(f"{where}: {_plain(fault['type'], fault['msg'])}")
    return faults


def _plain(kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        return "is not a setting; see docs/settings.md for those there are"
    if kind == "missing":
        return "is missing; add it"
    return message.removeprefix("Value error, ")


def _anchored(document: dict[str, Any], folder: Path) -> dict[str, Any]:
    """File names in a settings file are relative to it, wherever the gateway is started."""
    models = document.get("models")
    for model in models.values() if isinstance(models, dict) else ():
        measures = model.get("measures") if isinstance(model, dict) else None
        for holder, member in [
            (model, "tariff"),
            *((m, "file") for m in (measures if isinstance(measures, list) else ())),
        ]:
            if isinstance(holder, dict) and isinstance(holder.get(member), str):
                holder[member] = str(folder / holder[member])
    if isinstance(document.get("profile"), str):
        document["profile"] = str(folder / document["profile"])
    return document


def load_settings(path: Path) -> Settings:
    """Read a settings file.

    Raises:
        SettingsError: every fault of the file at once, each naming the setting and what to do.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError([f"{path}: cannot be read: {error.strerror}"]) from None
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise SettingsError([f"{path}: is not YAML: {' '.join(str(error).split())}"]) from None
    if not isinstance(document, dict) or not all(isinstance(key, str) for key in document):
        raise SettingsError([f"{path}: holds no settings; see docs/settings.md"])
    try:
        return Settings(**_anchored(document, path.parent))
    except ValidationError as error:
        raise SettingsError(_faults(error)) from None
