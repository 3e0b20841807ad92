"""Frozen settings from YAML and environment, all faults reported at once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings import SettingsError as SourceFault

from modeltoll.errors import SettingsError
from modeltoll.gateway.settings.callers import CallerSettings
from modeltoll.gateway.settings.errors import errors_of
from modeltoll.gateway.settings.field_types import Address, ModelName, Origin, Secret, UpstreamUrl, each_once
from modeltoll.gateway.settings.models import ModelSettings, SettingsPart
from modeltoll.gateway.settings.operation import OperationSettings, OperatorToken, is_loopback
from modeltoll.gateway.settings.yaml_file import read_document

__all__ = [
    "CorsSettings",
    "LedgerSettings",
    "LimitSettings",
    "Settings",
    "UpstreamSettings",
    "load_settings",
]

_SQLITE_HERE = re.compile(r"sqlite:///(?!/)(.+)")  # a SQLite file that is not named from the root


class UpstreamSettings(SettingsPart):
    """The model server; its URL is ``app`` where the gate is built into it (``TollMiddleware``)."""

    url: UpstreamUrl
    timeout_seconds: float = Field(30.0, gt=0)
    connections: int = Field(64, ge=1)
    max_concurrent: int | None = Field(None, ge=1)
    max_waiting: int = Field(192, ge=0)
    max_wait_seconds: float = Field(10.0, gt=0)
    max_answer_mib: float = Field(64.0, gt=0, le=64)  # no client opens a larger toll (wire.MAX_TOLL_BYTES)

    @model_validator(mode="after")
    def _each_has_a_connection(self) -> UpstreamSettings:
        if self.max_concurrent is not None and self.max_concurrent > self.connections:
            raise ValueError("max_concurrent is above connections, beyond which requests would wait without a limit")
        return self


class LedgerSettings(SettingsPart):
    """Where callers are remembered, and what happens while that does not answer."""

    url: str = "sqlite:///modeltoll.db"
    when_down: Literal["refuse", "release"] = "refuse"


class CorsSettings(SettingsPart):
    """Whose pages may ask from a browser: none, unless they are listed."""

    origins: tuple[Origin, ...] = ()


class LimitSettings(SettingsPart):
    """What one request, and all waiting requests together, may take."""

    body_mib: float = Field(8.0, gt=0, le=1024)
    rows: int = Field(1024, ge=1)
    waiting: int = Field(256, ge=1)


class Settings(BaseSettings):
    """The gateway's settings. ``MODELTOLL_UPSTREAM__URL`` and the like override the file."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        env_prefix="MODELTOLL_",
        env_nested_delimiter="__",
        nested_model_default_partial_update=True,
    )

    listen: Address = "127.0.0.1:8080"
    admin: Address = "127.0.0.1:9090"
    admin_token: OperatorToken | None = None
    upstream: UpstreamSettings
    ledger: LedgerSettings = LedgerSettings()
    callers: CallerSettings = CallerSettings()
    limits: LimitSettings = LimitSettings()
    cors: CorsSettings = CorsSettings()
    operation: OperationSettings = OperationSettings()
    secrets: tuple[Secret, ...] = ()
    profile: Path | None = None
    models: Mapping[ModelName, ModelSettings] = Field(min_length=1)

    @model_validator(mode="after")
    def _entries_can_be_redeemed(self) -> Settings:
        sealed = [name for name, model in self.models.items() if "redeem" not in model.puzzle.modes]
        if self.callers.entry.seconds and sealed:
            raise ValueError(
                f"callers.entry: entry puzzles are redeemed; add redeem to models.{sealed[0]}.puzzle.modes"
            )
        return self

    @model_validator(mode="after")
    def _operators_are_known(self) -> Settings:
        if self.admin_token is None and not is_loopback(self.admin):
            raise ValueError(
                "admin: is open to other machines: set MODELTOLL_ADMIN_TOKEN (openssl rand -hex 32), or listen on 127.0.0.1"
            )
        return self

    @field_validator("secrets")
    @classmethod
    def _secrets_once(cls, secrets: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        each_once((secret.get_secret_value() for secret in secrets), "a secret")
        return secrets

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
    callers, operation = document.get("callers"), document.get("operation")
    tokens = callers.get("jwt") if isinstance(callers, dict) else None
    files = [(document, "profile"), (callers, "key_file"), (tokens, "key_file"), (operation, "audit_file")]
    for holder, member in files:
        if isinstance(holder, dict) and isinstance(holder.get(member), str):
            holder[member] = str(folder / holder[member])
    ledger = document.setdefault("ledger", {})
    if isinstance(ledger, dict) and isinstance(url := ledger.get("url", LedgerSettings().url), str):
        ledger["url"] = _SQLITE_HERE.sub(lambda found: f"sqlite:///{quote(str(folder.absolute()))}/{found[1]}", url)
    return document


def load_settings(path: Path) -> Settings:
    """Read a settings file; what the environment says overrides it.

    Raises:
        SettingsError: every fault of the file at once, each naming the setting and what to do.
    """
    document = _anchored(read_document(path), path.parent)
    try:
        return Settings(**document)
    except ValidationError as error:
        raise SettingsError(errors_of(error)) from None
    except SourceFault as error:  # a variable that should hold JSON and does not
        raise SettingsError([f"environment: {error}; write JSON, or set a member of it by MODELTOLL_A__B"]) from None
