"""Identifies callers by JSON Web Tokens (RFC 7519); ``sub`` names the caller."""

from __future__ import annotations

import logging
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import jwt

from modeltoll.errors import CallerRefused, KeysAwaited
from modeltoll.gateway.callers.key_set_url import KeySetUrl
from modeltoll.gateway.callers.verification_keys import VerificationKey, VerificationKeys, read_verification_keys
from modeltoll.gateway.file_watch import FileWatch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from modeltoll.gateway.callers.identify import Tier
    from modeltoll.records import Caller

__all__ = ["JwtCredentials", "JwtPolicy"]

log = logging.getLogger("modeltoll.gateway")

_TOKEN_PATTERN = re.compile(r"[\w-]+\.[\w-]+\.[\w-]*", re.ASCII)
_MAX_TOKEN = 8192  # characters
_MAX_SUBJECT = 200  # characters
_ORGANISATION = re.compile(r"[\w.@-]{1,64}")


@dataclass(frozen=True, slots=True)
class JwtPolicy:
    """Which tokens are accepted. ``leeway_seconds`` is the tolerated difference between clocks.

    Where ``issuer`` or ``audience`` is given, a token must name it. ``tier_claim`` and ``organisation_claim`` are the
    members of a token that name the caller's tier (by default ``tier``) and organisation.
    """

    algorithms: tuple[str, ...]
    tier: str
    issuer: str | None = None
    audience: str | None = None
    leeway_seconds: float = 0.0
    tier_claim: str | None = None
    organisation_claim: str | None = None


class JwtCredentials:
    """Identifies callers by their tokens. ``clock`` gives seconds since the epoch.

    ``tiers`` are the tiers that a token may name. ``keys`` is the secret, the file of keys that verify tokens, or the URL of
    a set of them; with a file or a URL, no token is valid until ``file_watch`` or ``key_set`` has read it.
    """

    def __init__(
        self, policy: JwtPolicy, tiers: Mapping[str, Tier], keys: bytes | Path | KeySetUrl, clock: Callable[[], float]
    ) -> None:
        self._read_keys = VerificationKeys.of_secret(keys) if isinstance(keys, bytes) else VerificationKeys()
        self._path = keys if isinstance(keys, Path) else None
        self.key_set = keys if isinstance(keys, KeySetUrl) else None
        self.file_watch = FileWatch(self._path, self._load, "the file of keys for tokens") if self._path else None
        self._policy = policy
        self._tiers = tiers
        self._clock = clock

    def caller(self, credential: str) -> Caller | None:
        """See ``Credentials.caller``. Everything that has the form of a token is treated as one."""
        if not _TOKEN_PATTERN.fullmatch(credential):
            return None
        claims = self._claims(credential)
        self._check_times(claims)
        subject = claims.get("sub")
        if not (isinstance(subject, str) and 0 < len(subject) <= _MAX_SUBJECT and subject.isprintable()):
            _refuse("its 'sub' is not the name of a caller")
        return self._tier(claims).caller(f"jwt:{subject}", self._groups(claims))

    def _load(self) -> None:
        assert self._path is not None  # only the file watch calls this
        keys = read_verification_keys(self._path, self._policy.algorithms)
        if keys.ignored != self._read_keys.ignored:
            for reason in keys.ignored:
                log.warning("%s: %s", self._path, reason)
        self._read_keys = keys

    @property
    def _keys(self) -> VerificationKeys:
        return self._read_keys if self.key_set is None else self.key_set.keys

    def _refuse_unverified(self, private: str) -> NoReturn:
        """Refuse a token that no key in force verifies. The set at a URL is fetched again; a new key may be in it."""
        if self.key_set is not None and self.key_set.want():
            raise KeysAwaited("the keys that verify tokens are being fetched; try again", private=private)
        _refuse(private)

    def _claims(self, token: str) -> dict[str, Any]:
        """The claims of a token, after its signature, issuer and audience are verified."""
        if len(token) > _MAX_TOKEN:
            _refuse(f"it is longer than {_MAX_TOKEN} characters")
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
            raise _refusal(repr(error)) from None
        if "crit" in header:
            _refuse("it asks for an extension (crit)")
        candidates = self._keys.candidates(header.get("kid"), header.get("alg"))
        if not candidates:
            self._refuse_unverified("no key of that id and algorithm is known")
        for candidate in candidates:
            claims = self._verified(token, candidate)
            if claims is not None:
                return claims
        if self.key_set is not None and header.get("kid") is None:
            self.key_set.want()  # a new key may be in the set; who tries again later gets it
        raise _refusal("its signature is of no key of that id and algorithm")

    def _verified(self, token: str, candidate: VerificationKey) -> dict[str, Any] | None:
        """The claims of a token, if this key has signed it; None if it has not."""
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                candidate.key,
                algorithms=list(candidate.algorithms),
                issuer=self._policy.issuer,
                audience=self._policy.audience,
                # _check_times checks the times, by the injected clock
                options={
                    "require": self._required(),
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
        except jwt.InvalidSignatureError:
            return None
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
            raise _refusal(repr(error)) from None
        return claims

    def _required(self) -> list[str]:
        policy = self._policy
        return ["exp", "sub", *["iss"] * bool(policy.issuer), *["aud"] * bool(policy.audience)]

    def _check_times(self, claims: Mapping[str, Any]) -> None:
        now, leeway = self._clock(), self._policy.leeway_seconds
        if now >= _time_claim(claims, "exp") + leeway:
            raise CallerRefused("the token has expired")
        if "nbf" in claims and now < _time_claim(claims, "nbf") - leeway:
            raise CallerRefused("the token is not valid yet")

    def _tier(self, claims: Mapping[str, Any]) -> Tier:
        claim = self._policy.tier_claim
        name = claims.get(claim, self._policy.tier) if claim else self._policy.tier
        tier = self._tiers.get(name) if isinstance(name, str) else None
        if tier is None:
            _refuse(f"it names a tier that is not known: {name!r:.80}")
        return tier

    def _groups(self, claims: Mapping[str, Any]) -> tuple[str, ...]:
        claim = self._policy.organisation_claim
        name = claims.get(claim) if claim else None
        if name is None:
            return ()
        if not (isinstance(name, str) and _ORGANISATION.fullmatch(name)):
            _refuse(f"it names no organisation: {name!r:.80}")
        return (f"org:{name}",)


def _time_claim(claims: Mapping[str, Any], name: str) -> float:
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        _refuse(f"its {name!r} is not a time")
    return float(value)


def _refusal(private: str) -> CallerRefused:
    return CallerRefused("the token is not valid here", private=private)  # the public reason does not help a forger


def _refuse(private: str) -> NoReturn:
    raise _refusal(private)
