"""Callers as the settings name them."""

from __future__ import annotations

import time
from ipaddress import ip_network
from typing import TYPE_CHECKING

from modeltoll.gateway.callers.identify import Callers, Tier
from modeltoll.gateway.callers.json_web_tokens import Tokens, Trust
from modeltoll.gateway.callers.key_store import KeyRoll
from modeltoll.gateway.core.admission import Entrance, EntryTerms
from modeltoll.records import Allowance

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from modeltoll.gateway.assembly.gateway import Assembly
    from modeltoll.gateway.callers.identify import Credentials
    from modeltoll.gateway.settings.callers import KeySettings, TierSettings
    from modeltoll.gateway.settings.load import Settings
    from modeltoll.records import Caller

__all__ = ["build_callers", "build_entrance", "build_roll", "build_tiers", "build_tokens"]


def _tier(settings: TierSettings) -> Tier:
    allowance = Allowance(settings.daily_rows, settings.daily_work_seconds)
    return Tier(settings.exempt, settings.multiplier, None if allowance == Allowance() else allowance)


def build_tiers(settings: Settings) -> Mapping[str, Tier]:
    """The tiers by their names."""
    return {name: _tier(tier) for name, tier in settings.callers.tiers.items()}


def build_roll(settings: Settings) -> KeyRoll | None:
    """The keys of the key file, or None where there is no such file in the settings.

    Raises:
        SettingsError: the file cannot be used.
    """
    if settings.callers.key_file is None:
        return None
    roll = KeyRoll(settings.callers.key_file, build_tiers(settings), time.time)
    roll.watch.read()
    return roll


def build_tokens(settings: Settings) -> Tokens | None:
    """The tokens that are believed, or None where the settings say nothing of any.

    Raises:
        SettingsError: the file of keys cannot be used.
    """
    terms = settings.callers.jwt
    if terms is None:
        return None
    trust = Trust(
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
    tokens = Tokens(trust, build_tiers(settings), keys, time.time)
    if tokens.watch:
        tokens.watch.read()
    return tokens


def _caller(key: KeySettings, tiers: Mapping[str, Tier]) -> Caller:
    tier = tiers["exempt"] if key.exempt else tiers[key.tier]
    return tier.caller(f"key:{key.name}", (f"org:{key.organisation}",) * bool(key.organisation), discount=key.discount)


def build_callers(settings: Settings, credentials: Sequence[Credentials] = ()) -> Callers:
    """The list at the door; ``credentials`` are asked for whoever it does not know."""
    callers, tiers = settings.callers, build_tiers(settings)
    return Callers(
        keys={key.sha256: _caller(key, tiers) for key in callers.keys},
        anonymous=callers.anonymous,
        trusted_proxies=tuple(map(ip_network, callers.trusted_proxies)),
        ipv4_prefixes=callers.prefixes.ipv4,
        ipv6_prefixes=callers.prefixes.ipv6,
        newcomers=tiers[callers.anonymous_tier],
        credentials=tuple(credentials),
    )


def build_entrance(settings: Settings, before: Assembly | None = None) -> Entrance | None:
    """Who solves a small puzzle before the model server is asked; None where nobody does.

    On the terms of the gateway ``before`` it is the one before, who knows his callers.
    """
    entry = settings.callers.entry
    if before is not None and before.settings.callers.entry == entry:
        return next(iter(before.gates.values())).road.entrance
    if entry.seconds <= 0.0:
        return None
    return Entrance(EntryTerms(entry.seconds, entry.new_requests, entry.cores, entry.backlog_seconds), time.time)
