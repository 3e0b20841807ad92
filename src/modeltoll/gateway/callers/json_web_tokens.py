"""Callers whom somebody else vouches for: JSON Web Tokens (RFC 7519), whose ``sub`` is the caller."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import jwt

from modeltoll.errors import CallerRefused, SettingsError
from modeltoll.gateway.file_watch import FileWatch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from modeltoll.gateway.callers.identify import Tier
    from modeltoll.records import Caller

__all__ = ["SYMMETRIC", "JwtCredentials", "JwtPolicy", "read_keys"]

SYMMETRIC = "HS256"
SECRET_BYTES = 32
_FORM = re.compile(r"[\w-]+\.[\w-]+\.[\w-]*", re.ASCII)
_LONGEST = 8192  # characters of a token
_SUBJECT = 200  # characters of a name
_ORGANISATION = re.compile(r"[\w.@-]{1,64}")
_ONLY = ""  # what the key of a file that holds but one is called


@dataclass(frozen=True, slots=True)
class JwtPolicy:
    """Which tokens are believed; ``leeway`` (seconds) is what clocks may differ.

    Where ``issuer`` or ``audience`` is given, a token must name it. ``tier_claim`` and ``organisation_claim`` are
    members of a token that name its caller's tier (else he is of ``tier``) and organisation.
    """

    algorithms: tuple[str, ...]
    tier: str
    issuer: str | None = None
    audience: str | None = None
    leeway: float = 0.0
    tier_claim: str | None = None
    organisation_claim: str | None = None


def read_keys(path: Path, algorithms: tuple[str, ...]) -> Mapping[str, Any]:
    """The keys of a file: a JWK set, a public key in PEM, or, for HS256, the secret itself.

    Raises:
        SettingsError: it cannot be read, holds no key for these algorithms, or one that is private.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise SettingsError([f"{path}: cannot be read: {error.strerror}"]) from None
    try:
        keys = _set_of(text) if text.lstrip().startswith(b"{") else {_ONLY: text.strip()}
        prepared = {name: _prepared(key, algorithms) for name, key in keys.items()}
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):  # what they say may show the key
        raise SettingsError([f"{path}: holds no key for {', '.join(algorithms)}"]) from None
    if any(hasattr(key, "private_bytes") for key in prepared.values()):
        raise SettingsError(
            [f"{path}: holds a private key; the gateway needs the public one, and should have no other"]
        )
    if any(isinstance(key, bytes) and len(key) < SECRET_BYTES for key in prepared.values()):
        raise SettingsError(
            [f"{path}: the secret is shorter than {SECRET_BYTES} bytes: openssl rand -hex {SECRET_BYTES}"]
        )
    return prepared


def _set_of(text: bytes) -> dict[str, Any]:
    document = json.loads(text)
    return {str(key.key_id or _ONLY): key.key for key in jwt.PyJWKSet.from_dict(document).keys}


def _prepared(key: Any, algorithms: tuple[str, ...]) -> Any:
    """The key as one of the algorithms uses it."""
    for name in algorithms:
        try:
            return jwt.get_algorithm_by_name(name).prepare_key(key)
        except (jwt.PyJWTError, ValueError, TypeError):
            continue
    raise ValueError("a key of none of these algorithms")


class JwtCredentials:
    """Callers by their tokens; they are of the ``tiers`` that are named. ``clock`` gives seconds since the epoch.

    ``keys`` is the secret, or the file that verifies tokens: none is good until ``watch`` has read it.
    """

    def __init__(
        self, trust: JwtPolicy, tiers: Mapping[str, Tier], keys: bytes | Path, clock: Callable[[], float]
    ) -> None:
        self._keys: Mapping[str, Any] = {} if isinstance(keys, Path) else {_ONLY: keys}
        self._path = keys if isinstance(keys, Path) else None
        self.watch = FileWatch(self._path, self._load, "the file of keys for tokens") if self._path else None
        self._trust = trust
        self._tiers = tiers
        self._clock = clock

    def caller(self, credential: str) -> Caller | None:
        """See ``Credentials.caller``: whatever has the form of a token is one."""
        if not _FORM.fullmatch(credential):
            return None
        claims = self._claims(credential)
        self._check_times(claims)
        subject = claims.get("sub")
        if not (isinstance(subject, str) and 0 < len(subject) <= _SUBJECT and subject.isprintable()):
            _refuse("its 'sub' is not the name of a caller")
        return self._tier(claims).caller(f"jwt:{subject}", self._groups(claims))

    def _load(self) -> None:
        assert self._path is not None  # or nobody watches
        self._keys = read_keys(self._path, self._trust.algorithms)

    def _claims(self, token: str) -> dict[str, Any]:
        """What the token says, once its signature, issuer and audience are what they should be."""
        trust = self._trust
        if len(token) > _LONGEST:
            _refuse(f"it is longer than {_LONGEST} characters")
        try:
            header = jwt.get_unverified_header(token)
            if "crit" in header:
                _refuse("it asks for an extension (crit)")
            key = self._keys.get(_ONLY) or self._keys.get(str(header.get("kid", _ONLY)))
            if key is None:
                _refuse("no key of that id is known")
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=list(trust.algorithms),
                issuer=trust.issuer,
                audience=trust.audience,
                # times are checked below, by the gateway's own clock
                options={"require": self._required(), "verify_exp": False, "verify_nbf": False, "verify_iat": False},
            )
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
            raise _refusal(repr(error)) from None
        return claims

    def _required(self) -> list[str]:
        trust = self._trust
        return ["exp", "sub", *["iss"] * bool(trust.issuer), *["aud"] * bool(trust.audience)]

    def _check_times(self, claims: Mapping[str, Any]) -> None:
        now, leeway = self._clock(), self._trust.leeway
        if now >= _moment(claims, "exp") + leeway:
            raise CallerRefused("the token has expired")
        if "nbf" in claims and now < _moment(claims, "nbf") - leeway:
            raise CallerRefused("the token is not good yet")

    def _tier(self, claims: Mapping[str, Any]) -> Tier:
        claim = self._trust.tier_claim
        named = claims.get(claim, self._trust.tier) if claim else self._trust.tier
        tier = self._tiers.get(named) if isinstance(named, str) else None
        if tier is None:
            _refuse(f"it names a tier that is not known: {named!r:.80}")
        return tier

    def _groups(self, claims: Mapping[str, Any]) -> tuple[str, ...]:
        claim = self._trust.organisation_claim
        named = claims.get(claim) if claim else None
        if named is None:
            return ()
        if not (isinstance(named, str) and _ORGANISATION.fullmatch(named)):
            _refuse(f"it names no organisation: {named!r:.80}")
        return (f"org:{named}",)


def _moment(claims: Mapping[str, Any], name: str) -> float:
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        _refuse(f"its {name!r} is not a time")
    return float(value)


def _refusal(private: str) -> CallerRefused:
    return CallerRefused("the token is not valid here", private=private)  # nothing that would help a forger


def _refuse(private: str) -> NoReturn:
    raise _refusal(private)
