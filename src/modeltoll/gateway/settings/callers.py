"""Settings of those who ask: keys, tiers, tokens, networks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, field_validator, model_validator

from modeltoll.gateway.settings.field_types import HashedKey, Network, Person, WideIPv4, WideIPv6, each_once
from modeltoll.gateway.settings.models import SettingsPart

__all__ = [
    "NORMAL",
    "AdmissionSettings",
    "CallerSettings",
    "JwtSettings",
    "KeySettings",
    "PrefixSettings",
    "TierSettings",
]

NORMAL = "normal"
_BUILT_IN: Mapping[str, Mapping[str, Any]] = {
    "exempt": {"exempt": True},
    "discounted": {"multiplier": 0.5},
    NORMAL: {},
    "strict": {"multiplier": 4.0},
}


class TierSettings(SettingsPart):
    """What callers of one tier pay for their rows, and how much they may have in a day."""

    exempt: bool = False
    multiplier: float = Field(1.0, ge=0, le=1000)
    daily_rows: int | None = Field(None, ge=1, le=10**15)
    daily_work_seconds: float | None = Field(None, gt=0)


def _merged(given: Any) -> Any:
    """The built-in tiers, with what is said of them, and the tiers that are the operator's own."""
    if not isinstance(given, Mapping):
        return given
    tiers: dict[Any, Any] = {name: dict(members) for name, members in _BUILT_IN.items()}
    for name, members in given.items():
        tiers[name] = {**tiers.get(name, {}), **members} if isinstance(members, Mapping) else members
    return tiers


class KeySettings(SettingsPart):
    """One API key, kept as its SHA-256, with the organisation that it shares a histogram with."""

    name: Person
    sha256: HashedKey
    tier: Person = NORMAL
    exempt: bool = False
    organisation: Person | None = None
    discount: float = Field(0.0, ge=0, le=1)


class JwtSettings(SettingsPart):
    """Whose tokens are believed, and which members of them say on which terms."""

    algorithms: tuple[Literal["HS256", "RS256", "ES256", "EdDSA"], ...] = Field(min_length=1)
    key_file: Path | None = None
    secret: SecretStr | None = Field(None, min_length=32)
    issuer: str | None = Field(None, min_length=1)
    audience: str | None = Field(None, min_length=1)
    leeway_seconds: float = Field(30.0, ge=0, le=300)
    tier: Person = NORMAL
    tier_claim: str | None = None
    organisation_claim: str | None = None

    @model_validator(mode="after")
    def _one_kind_of_key(self) -> JwtSettings:
        if (self.key_file is None) == (self.secret is None):
            raise ValueError("name a key_file, or a secret in MODELTOLL_CALLERS__JWT__SECRET, and not both")
        if "HS256" in self.algorithms and len(self.algorithms) > 1:
            raise ValueError("HS256 stands alone: a public key beside it could be taken for its secret")
        if self.secret is not None and "HS256" not in self.algorithms:
            raise ValueError("a secret is for HS256; the other algorithms verify with a key_file")
        return self


class AdmissionSettings(SettingsPart):
    """Who solves a small puzzle before the model server is asked, and how small it is."""

    seconds: float = Field(0.0, ge=0, le=10)
    new_requests: int = Field(10, ge=0)
    cores: float = Field(64.0, gt=0)
    backlog_seconds: float = Field(60.0, gt=0)


class PrefixSettings(SettingsPart):
    """Wider networks whose histogram anonymous callers share, as prefix lengths."""

    ipv4: tuple[WideIPv4, ...] = ()
    ipv6: tuple[WideIPv6, ...] = ()

    @field_validator("ipv4", "ipv6")
    @classmethod
    def _lengths_once(cls, lengths: tuple[int, ...]) -> tuple[int, ...]:
        each_once(lengths, "a prefix length")
        return lengths


class CallerSettings(SettingsPart):
    """Who may ask, and on which terms."""

    anonymous: bool = True
    anonymous_tier: Person = NORMAL
    entry: AdmissionSettings = AdmissionSettings()
    keys: tuple[KeySettings, ...] = ()
    key_file: Path | None = None
    jwt: JwtSettings | None = None
    tiers: Mapping[Person, TierSettings] = Field({}, validate_default=True)
    trusted_proxies: tuple[Network, ...] = ()
    prefixes: PrefixSettings = PrefixSettings()

    @field_validator("tiers", mode="before")
    @classmethod
    def _tiers_merged(cls, given: Any) -> Any:
        return _merged(given)

    @field_validator("keys")
    @classmethod
    def _keys_once(cls, keys: tuple[KeySettings, ...]) -> tuple[KeySettings, ...]:
        each_once((key.name for key in keys), "a name")
        each_once((key.sha256 for key in keys), "a key")
        return keys

    @model_validator(mode="after")
    def _tiers_are_known(self) -> CallerSettings:
        named = {"anonymous_tier": self.anonymous_tier}
        named |= {f"keys.{number}.tier": key.tier for number, key in enumerate(self.keys)}
        if self.jwt is not None:
            named["jwt.tier"] = self.jwt.tier
        for setting, tier in named.items():
            if tier not in self.tiers:
                raise ValueError(f"{setting}: there is no tier {tier!r}; there are: {', '.join(self.tiers)}")
        return self

    @model_validator(mode="after")
    def _somebody_may_ask(self) -> CallerSettings:
        if not (self.anonymous or self.keys or self.key_file or self.jwt):
            raise ValueError(
                "anonymous is false and no keys are listed: nobody could ask; list keys, name a key_file, believe jwt "
                "or allow anonymous"
            )
        return self
