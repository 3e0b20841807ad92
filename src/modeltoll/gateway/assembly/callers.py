"""Callers as the settings name them."""

from __future__ import annotations

import time
from ipaddress import ip_network
from typing import TYPE_CHECKING

from modeltoll.gateway.callers.identify import CallerIdentifier, Tier
from modeltoll.gateway.callers.json_web_tokens import JwtCredentials, JwtPolicy
from modeltoll.gateway.callers.key_store import KeyStore
from modeltoll.gateway.core.admission import AdmissionControl, AdmissionTerms
from modeltoll.records import DailyQuota

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from modeltoll.gateway.assembly.gateway import Gateway
    from modeltoll.gateway.callers.identify import Credentials
    from modeltoll.gateway.settings.callers import KeySettings, TierSettings
    from modeltoll.gateway.settings.load import Settings
    from modeltoll.records import Caller

__all__ = ["build_admission", "build_callers", "build_jwt_credentials", "build_key_store", "build_tiers"]


def _tier(settings: TierSettings) -> Tier:
    allowance = DailyQuota(settings.daily_rows, settings.daily_work_seconds)
    return Tier(settings.exempt, settings.multiplier, None if allowance == DailyQuota() else allowance)


def build_tiers(settings: Settings) -> Mapping[str, Tier]:
    """The tiers by their names."""
    return {name: _tier(tier) for name, tier in settings.callers.tiers.items()}


def build_key_store(settings: Settings) -> KeyStore | None:
    """The keys of the key file, or None where there is no such file in the settings.

    Raises:
        SettingsError: the file cannot be used.
    """
    if settings.callers.key_file is None:
        return None
    roll = KeyStore(settings.callers.key_file, build_tiers(settings), time.time)
    roll.watch.read()
    return roll


def build_jwt_credentials(settings: Settings) -> JwtCredentials | None:
    """The tokens that are believed, or None where the settings say nothing of any.

    Raises:
        SettingsError: the file of keys cannot be used.
    """
    terms = settings.callers.jwt
    if terms is None:
        return None
    trust = JwtPolicy(
        algorithms=terms.algorithms,
        tier=terms.tier,
        issuer=terms.issuer,
        audience=terms.audience,
        leeway=terms.leeway_seconds,
        tier_claim=terms.tier_claim,
        organisation_claim=terms.organisation_claim,
    )
    keys = terms.secret.get_secret_value().encode() if terms.secret else terms.key_file
    assert keys is not None  # one of the two there is
    tokens = JwtCredentials(trust, build_tiers(settings), keys, time.time)
    if tokens.watch:
        tokens.watch.read()
    return tokens


def _caller(key: KeySettings, tiers: Mapping[str, Tier]) -> Caller:
    tier = tiers["exempt"] if key.exempt else tiers[key.tier]
    return tier.caller(f"key:{key.name}", (f"org:{key.organisation}",) * bool(key.organisation), discount=key.discount)


def build_callers(settings: Settings, credentials: Sequence[Credentials] = ()) -> CallerIdentifier:
    """The list at the door; ``credentials`` are asked for whoever it does not know."""
    callers, tiers = settings.callers, build_tiers(settings)
    return CallerIdentifier(
        keys={key.sha256: _caller(key, tiers) for key in callers.keys},
        anonymous=callers.anonymous,
        trusted_proxies=tuple(map(ip_network, callers.trusted_proxies)),
        ipv4_prefixes=callers.prefixes.ipv4,
        ipv6_prefixes=callers.prefixes.ipv6,
        newcomers=tiers[callers.anonymous_tier],
        credentials=tuple(credentials),
    )


def build_admission(settings: Settings, before: Gateway | None = None) -> AdmissionControl | None:
    """Who solves a small puzzle before the model server is asked; None where nobody does.

    On the terms of the gateway ``before`` it is the one before, who knows his callers.
    """
    entry = settings.callers.entry
    if before is not None and before.settings.callers.entry == entry:
        return next(iter(before.gates.values())).road.entrance
    if entry.seconds <= 0.0:
        return None
    return AdmissionControl(
        AdmissionTerms(entry.seconds, entry.new_requests, entry.cores, entry.backlog_seconds), time.time
    )
