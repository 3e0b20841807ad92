"""Builds what identifies callers, and their terms, from the settings."""

from __future__ import annotations

import ssl
import time
from ipaddress import ip_network
from typing import TYPE_CHECKING

from modeltoll.errors import SettingsError
from modeltoll.gateway.callers.api_keys import ApiKeys
from modeltoll.gateway.callers.forwarded import UNIX
from modeltoll.gateway.callers.identify import CallerIdentifier, Tier
from modeltoll.gateway.callers.json_web_tokens import JwtCredentials, JwtPolicy
from modeltoll.gateway.callers.key_set_url import KeySetSource, KeySetUrl
from modeltoll.gateway.core.credit import Credit, CreditTerms
from modeltoll.records import DailyQuota

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from modeltoll.gateway.callers.identify import Credentials
    from modeltoll.gateway.settings.callers import JwtSettings, KeySettings, TierSettings
    from modeltoll.gateway.settings.gateway import Settings
    from modeltoll.records import Caller

__all__ = ["build_api_keys", "build_credit_terms", "build_identifier", "build_jwt_credentials", "build_tiers"]


def _tier(settings: TierSettings) -> Tier:
    quota = DailyQuota(settings.daily_rows, settings.daily_work_seconds)
    return Tier(settings.exempt, settings.multiplier, None if quota == DailyQuota() else quota)


def build_tiers(settings: Settings) -> Mapping[str, Tier]:
    """The tiers by their names."""
    return {name: _tier(tier) for name, tier in settings.callers.tiers.items()}


def build_api_keys(settings: Settings) -> ApiKeys | None:
    """The keys of the key file; None where the settings name none.

    Raises:
        SettingsError: the file cannot be used.
    """
    if settings.callers.key_file is None:
        return None
    api_keys = ApiKeys(settings.callers.key_file, build_tiers(settings), time.time)
    api_keys.file_watch.read()
    return api_keys


def build_jwt_credentials(settings: Settings, before: KeySetUrl | None = None) -> JwtCredentials | None:
    """The JSON Web Tokens that are accepted; None where the settings accept none.

    ``before``: the set at a URL of the gateway before this one.

    Raises:
        SettingsError: the file of keys, or the certificates for the URL, cannot be used.
    """
    terms = settings.callers.jwt
    if terms is None:
        return None
    policy = JwtPolicy(
        algorithms=terms.algorithms,
        tier=terms.tier,
        issuer=terms.issuer,
        audience=terms.audience,
        leeway_seconds=terms.leeway_seconds,
        tier_claim=terms.tier_claim,
        organisation_claim=terms.organisation_claim,
    )
    keys = terms.secret.get_secret_value().encode() if terms.secret else terms.key_file or _key_set(terms, before)
    credentials = JwtCredentials(policy, build_tiers(settings), keys, time.time)
    if credentials.file_watch:
        credentials.file_watch.read()
    return credentials


def _key_set(terms: JwtSettings, before: KeySetUrl | None) -> KeySetUrl:
    assert terms.key_url is not None  # the settings require a secret, a file or a URL
    try:
        tls = ssl.create_default_context(cafile=terms.key_url_ca_file) if terms.key_url_ca_file else None
    except OSError as error:
        found = f"{terms.key_url_ca_file}: no certificates in PEM: {error}"
        raise SettingsError([f"callers.jwt.key_url_ca_file: {found}"]) from None
    return KeySetUrl(KeySetSource(terms.key_url, terms.algorithms, terms.key_url_seconds, tls), before)


def _caller(key: KeySettings, tiers: Mapping[str, Tier]) -> Caller:
    tier = tiers["exempt"] if key.exempt else tiers[key.tier]
    return tier.caller(f"key:{key.name}", (f"org:{key.organisation}",) * bool(key.organisation), discount=key.discount)


def build_identifier(settings: Settings, credentials: Sequence[Credentials] = ()) -> CallerIdentifier:
    """What identifies callers; ``credentials`` are tried for keys that are not in the settings themselves."""
    callers, tiers = settings.callers, build_tiers(settings)
    return CallerIdentifier(
        keys={key.sha256: _caller(key, tiers) for key in callers.keys},
        anonymous=callers.anonymous,
        trusted_proxies=tuple([ip_network(proxy) for proxy in callers.trusted_proxies if proxy != UNIX]),
        trusts_unix=UNIX in callers.trusted_proxies,
        ipv4_prefixes=callers.prefixes.ipv4,
        ipv6_prefixes=callers.prefixes.ipv6,
        anonymous_tier=tiers[callers.anonymous_tier],
        credentials=tuple(credentials),
    )


def build_credit_terms(settings: Settings) -> CreditTerms:
    """How much work callers may leave unsettled."""
    known, anonymous = settings.callers.credit, settings.callers.anonymous_credit
    return CreditTerms(Credit(known.seconds, known.units), Credit(anonymous.seconds, anonymous.units))
