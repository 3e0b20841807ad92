"""Settings of callers: keys, tiers, tokens, networks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from modeltoll.gateway.settings.field_types import HashedKey, KeyUrl, Person, Proxy, WideIPv4, WideIPv6, each_once
from modeltoll.gateway.settings.secret_text import SecretText
from modeltoll.gateway.settings.served_models import SettingsPart

__all__ = [
    "NORMAL",
    "AnonymousCreditSettings",
    "CallerSettings",
    "CreditSettings",
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
    """What the rows of a tier's callers cost, and how much each caller may have in a day."""

    exempt: bool = Field(False, description="Callers of the tier are measured and logged, and never charged.")
    multiplier: float = Field(
        1.0,
        ge=0,
        le=1000,
        description="Factor on the price of the tier's rows. Below 1 it is a discount, which ends while the caller is under suspicion. Above 1 the bound on the honest mean is multiplied too.",
    )
    daily_rows: int | None = Field(
        None,
        ge=1,
        le=10**15,
        description="Most rows of one caller in a day (UTC), of all models together. Further requests get 403 until the day ends. Without it there is no limit.",
    )
    daily_work_seconds: float | None = Field(
        None,
        gt=0,
        description="Most work of one caller's tolls in a day, in reference seconds. The toll that reaches it is the day's last. Without it there is no limit.",
    )


def _merged(given: Any) -> Any:
    """The built-in tiers with the members that are given for them, and the operator's own tiers."""
    if not isinstance(given, Mapping):
        return given
    tiers: dict[Any, Any] = {name: dict(members) for name, members in _BUILT_IN.items()}
    for name, members in given.items():
        tiers[name] = {**tiers.get(name, {}), **members} if isinstance(members, Mapping) else members
    return tiers


class KeySettings(SettingsPart):
    """One API key, kept as its SHA-256."""

    name: Person = Field(
        description="The caller's name in the ledger: letters, digits, `_ . @ -`, at most 64. All keys of one name share one account."
    )
    sha256: HashedKey = Field(
        description="SHA-256 of the key, 64 hexadecimal digits: `printf %s KEY | sha256sum`. Keys must be random."
    )
    tier: Person = Field(NORMAL, description="The key's tier.")
    exempt: bool = Field(False, description="The same as the tier `exempt`.")
    organisation: Person | None = Field(
        None,
        description="The organisation that the key belongs to. Keys of one organisation share an account of evidence. If it is not that of honest callers, their rarest rows (p below 0.1) cost up to ten times as much while a caller has paid for fewer than 200 rows.",
    )
    discount: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of the price that is taken off this caller's rows while the caller is not under suspicion.",
    )
    known_honest: bool = Field(
        False,
        description="Whether the operator knows that this caller is honest. `modeltoll calibrate --from-ledger` then makes a kind of the rows that the caller has sent so far, for this caller alone. Nothing changes before that, and rows sent later change nothing until the operator calibrates again.",
    )


class JwtSettings(SettingsPart):
    """Which JSON Web Tokens are accepted, and which of their members name a caller's tier and organisation."""

    algorithms: tuple[Literal["HS256", "RS256", "ES256", "EdDSA"], ...] = Field(
        min_length=1,
        description="Accepted signature algorithms: one or more of `RS256`, `ES256`, `EdDSA`, or `HS256` alone.",
    )
    key_file: Path | None = Field(
        None,
        description="The issuer's public key in PEM or its JWK set; for `HS256` the secret. It is read again when it changes.",
    )
    key_url: KeyUrl | None = Field(
        None,
        description="Address of the issuer's JWK set, instead of `key_file`: `https://`, or `http://` of this machine. It is fetched at the start, every `key_url_seconds`, and when a token names a key that is not known, at most once in 10 s; such a token gets 503 with `Retry-After` meanwhile. Redirects are not followed, and nothing that a token says about keys is. If it does not answer, the keys of the last fetch stay in force for a day.",
    )
    key_url_seconds: float = Field(300.0, ge=10, le=86_400, description="Time between two fetches of `key_url`.")
    key_url_ca_file: Path | None = Field(
        None,
        description="Certificates (PEM) of the authorities that the certificate of `key_url` is checked against, in place of the system's.",
    )
    secret: SecretText | None = Field(
        None,
        min_length=32,
        description="The secret of `HS256`, 32 characters or more, instead of `key_file`. Set it in the environment: `MODELTOLL_CALLERS__JWT__SECRET`.",
    )
    issuer: str | None = Field(
        None, min_length=1, description="The `iss` that a token must have. Without it every issuer is accepted."
    )
    audience: str | None = Field(
        None,
        min_length=1,
        description="The `aud` that a token must have. Without it tokens with an `aud` are refused, because they are meant for another service.",
    )
    leeway_seconds: float = Field(
        30.0, ge=0, le=300, description="Accepted difference between the issuer's clock and the gateway's."
    )
    tier: Person = Field(NORMAL, description="Tier of the callers that tokens name.")
    tier_claim: str | None = Field(
        None, description="Member of a token that names its caller's tier instead. An unknown tier gets 401."
    )
    organisation_claim: str | None = Field(None, description="Member of a token that names its caller's organisation.")

    @model_validator(mode="after")
    def _one_kind_of_key(self) -> JwtSettings:
        if [self.key_file, self.key_url, self.secret].count(None) != 2:
            raise ValueError(
                "name a key_file, a key_url, or a secret in MODELTOLL_CALLERS__JWT__SECRET, and no two of them"
            )
        if self.key_url is not None and "HS256" in self.algorithms:
            raise ValueError("HS256 verifies with a secret, which no URL may give away; use key_file or secret")
        if self.key_url_ca_file is not None and self.key_url is None:
            raise ValueError("key_url_ca_file is for key_url, which is not set")
        if "HS256" in self.algorithms and len(self.algorithms) > 1:
            raise ValueError(
                "HS256 cannot be combined with other algorithms: a public key could be taken for its secret"
            )
        if self.secret is not None and "HS256" not in self.algorithms:
            raise ValueError("a secret is for HS256; the other algorithms verify with a key_file")
        return self


class CreditSettings(SettingsPart):
    """How much work one caller may leave unsettled: the larger of both. As much drains in a day."""

    seconds: float = Field(10.0, gt=0, le=1e6, description="In reference seconds.")
    units: float = Field(200.0, ge=1, le=1e6, description="In units of the model: average honest rows.")


class AnonymousCreditSettings(CreditSettings):
    """The same for callers without a key."""

    seconds: float = Field(2.0, gt=0, le=1e6, description="In reference seconds.")
    units: float = Field(50.0, ge=1, le=1e6, description="In units of the model: average honest rows.")


class PrefixSettings(SettingsPart):
    """Networks wider than /24 and /48 whose evidence anonymous callers share too, as the keys of an organisation do."""

    ipv4: tuple[WideIPv4, ...] = Field((), description="Prefix lengths of IPv4 networks, such as `[16]`.")
    ipv6: tuple[WideIPv6, ...] = Field((), description="Prefix lengths of IPv6 networks, such as `[32]`.")

    @field_validator("ipv4", "ipv6")
    @classmethod
    def _lengths_once(cls, lengths: tuple[int, ...]) -> tuple[int, ...]:
        each_once(lengths, "a prefix length")
        return lengths


class CallerSettings(SettingsPart):
    """Who may send requests, and on which terms."""

    anonymous: bool = Field(
        True,
        description="Whether callers without a key are served. Their account is that of their address: one address of IPv4, a /64 of IPv6. Each belongs to the group of its network, /24 or /48.",
    )
    anonymous_tier: Person = Field(NORMAL, description="Tier of anonymous callers.")
    credit: CreditSettings = CreditSettings()
    anonymous_credit: AnonymousCreditSettings = AnonymousCreditSettings()
    keys: tuple[KeySettings, ...] = Field(
        (),
        description="API keys. Callers send `Authorization: Bearer KEY` or `X-Api-Key: KEY`. An unknown key gets 401.",
    )
    key_file: Path | None = Field(
        None, description="File of API keys, which `modeltoll keys` changes while gateways run."
    )
    jwt: JwtSettings | None = Field(
        None, description="JSON Web Tokens that name callers, in `Authorization: Bearer TOKEN`."
    )
    tiers: Mapping[Person, TierSettings] = Field(
        {},
        validate_default=True,
        description="Tiers by name. `exempt`, `discounted` (half the price), `normal` and `strict` (four times the price) exist; members that are given here are added to them. Other names make new tiers.",
    )
    trusted_proxies: tuple[Proxy, ...] = Field(
        (),
        description="Networks of proxies whose `X-Forwarded-For` or `Forwarded` is used; `unix` for proxies that ask over a Unix socket. The caller is the rightmost address that is in none of them; where an entry cannot be read, such as `unknown`, or the two headers do not agree, it is the nearest proxy known. Without any proxy listed the headers are ignored.",
    )
    prefixes: PrefixSettings = PrefixSettings()
    long_standing_days: float = Field(
        30.0,
        ge=0,
        le=3650,
        description="After how many days from its first request a caller with a key or token is of long standing, once 200 of its rows are settled (in shadow mode: sent). If such a caller comes under suspicion, the log warns, and `modeltoll_long_standing_suspects_total` counts it.",
    )

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
    def _some_caller_is_served(self) -> CallerSettings:
        if not (self.anonymous or self.keys or self.key_file or self.jwt):
            raise ValueError(
                "anonymous is false and no keys are listed: no caller could send requests; list keys, name a key_file, configure jwt "
                "or allow anonymous"
            )
        return self
