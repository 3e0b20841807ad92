"""The keys that verify JSON Web Tokens: of a JWK set (RFC 7517), a public key in PEM, or a secret.

Identity providers publish keys of several kinds in one set. Those that cannot verify a token here are left out, and named:
keys for encryption, of unknown kinds, of other algorithms, or malformed ones. Each key verifies tokens of its own algorithm
only, whatever algorithm a token names, so that a public key is never taken for a secret.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jwt

from modeltoll.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

__all__ = ["SYMMETRIC", "VerificationKey", "VerificationKeys", "parse_key_set", "read_verification_keys"]

SYMMETRIC = "HS256"
MIN_SECRET_BYTES = 32
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_MOST_TRIED = 8  # keys for one token, which bounds the time that a forged one takes
# Kind of key and curve by algorithm (RFC 7518, RFC 8037).
_KINDS = {"HS256": ("oct", None), "RS256": ("RSA", None), "ES256": ("EC", "P-256"), "EdDSA": ("OKP", "Ed25519")}
_NAMES = {"Ed25519": "EdDSA"}  # RFC 9864's name of the same algorithm


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A key as PyJWT takes it, and the algorithms whose tokens it verifies. ``identity``: its ``kid``; None without one."""

    key: Any
    algorithms: tuple[str, ...]
    identity: str | None = None


@dataclass(frozen=True, slots=True)
class VerificationKeys:
    """Keys, and why others of their file are ``ignored``: one sentence each."""

    keys: tuple[VerificationKey, ...] = ()
    ignored: tuple[str, ...] = ()

    @classmethod
    def of_secret(cls, secret: bytes) -> VerificationKeys:
        """The secret of HS256 alone."""
        return cls((VerificationKey(secret, (SYMMETRIC,)),))

    def candidates(self, identity: object, algorithm: object) -> tuple[VerificationKey, ...]:
        """The keys that may verify a token with this ``kid`` and ``alg``: those of its name, else those without one.

        A token without ``kid`` may be of any key. At most 8 are returned.
        """
        fitting = [key for key in self.keys if algorithm in key.algorithms]
        if identity is not None:
            fitting = [key for key in fitting if key.identity == identity] or [
                key for key in fitting if key.identity is None
            ]
        return tuple(fitting[:_MOST_TRIED])


def read_verification_keys(path: Path, algorithms: tuple[str, ...]) -> VerificationKeys:
    """The keys of a file: a JWK set or a single JWK, a public key in PEM, or, for HS256, the secret itself.

    Raises:
        SettingsError: the file cannot be read, holds no key for these algorithms, or holds a private key.
    """
    try:
        text = path.read_bytes().removeprefix(_BYTE_ORDER_MARK).strip()
    except OSError as error:
        raise SettingsError([f"{path}: cannot be read: {error.strerror}"]) from None
    keys = _checked(_keys_of_set if text.startswith(b"{") else _single_key, text, str(path), algorithms)
    if any(isinstance(each.key, bytes) and len(each.key) < MIN_SECRET_BYTES for each in keys.keys):
        raise SettingsError(
            [f"{path}: the secret is shorter than {MIN_SECRET_BYTES} bytes: openssl rand -hex {MIN_SECRET_BYTES}"]
        )
    return keys


def parse_key_set(text: bytes, place: str, algorithms: tuple[str, ...]) -> VerificationKeys:
    """The keys of a JWK set that was found at ``place``.

    Raises:
        SettingsError: it is none, holds no key for these algorithms, or holds a private key.
    """
    return _checked(_keys_of_set, text.removeprefix(_BYTE_ORDER_MARK), place, algorithms)


def _checked(
    parse: Callable[[bytes, tuple[str, ...]], VerificationKeys], text: bytes, place: str, algorithms: tuple[str, ...]
) -> VerificationKeys:
    """What ``parse`` finds, one key or more; else a ``SettingsError`` that shows no key."""
    nothing = f"holds no key for {', '.join(algorithms)}"
    try:
        keys = parse(text, algorithms)
    except _PrivateKeyError:
        fault = "holds a private key; the gateway needs the public one, and should have no other"
        raise SettingsError([f"{place}: {fault}"]) from None
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError, RecursionError):  # they may show the key
        raise SettingsError([f"{place}: {nothing}"]) from None
    if not keys.keys:
        raise SettingsError([f"{place}: {nothing}", *(f"{place}: {reason}" for reason in keys.ignored)])
    return keys


class _PrivateKeyError(Exception):
    """The file holds a private key."""


def _single_key(text: bytes, algorithms: tuple[str, ...]) -> VerificationKeys:
    """A key that is no JWK, with the algorithms that it fits."""
    if not text:
        raise ValueError("the file is empty")
    for name in algorithms:
        try:
            key = _public(jwt.get_algorithm_by_name(name).prepare_key(text))
        except (jwt.PyJWTError, ValueError, TypeError):
            continue
        return VerificationKeys((VerificationKey(key, (name,)),))
    return VerificationKeys()


def _keys_of_set(text: bytes, algorithms: tuple[str, ...]) -> VerificationKeys:
    document = json.loads(text)
    listed = document.get("keys", [document])
    if not isinstance(listed, list):
        raise TypeError("the keys are no list")
    keys, ignored = [], []
    for number, jwk in enumerate(listed, 1):
        try:
            reason = _unusable(jwk, algorithms)
            if not reason:
                keys.append(_key(jwk, algorithms))
        except (jwt.PyJWTError, ValueError, TypeError, KeyError):
            reason = "it is malformed"
        if reason:
            ignored.append(f"key {number} of the set ({_described(jwk)}) is ignored: {reason}")
    return VerificationKeys(tuple(keys), tuple(ignored))


def _unusable(jwk: Any, algorithms: tuple[str, ...]) -> str:
    """Why a key of a set verifies no tokens here; "" if it may."""
    if not isinstance(jwk, dict):
        return "it is no JSON object"
    if jwk.get("kty") != "oct" and "d" in jwk:
        raise _PrivateKeyError
    if jwk.get("use", "sig") != "sig" or "verify" not in jwk.get("key_ops", ["verify"]):
        return "it is not for signatures"
    if not any(_fitting(jwk, algorithms)):
        return f"it is for none of {', '.join(algorithms)}"
    return ""


def _fitting(jwk: Mapping[str, Any], algorithms: tuple[str, ...]) -> Iterator[str]:
    """The algorithms of a key: those of its kind, or of these the one that it names."""
    named = _NAMES.get(str(jwk.get("alg")), jwk.get("alg"))
    for name in algorithms:
        kind, curve = _KINDS[name]
        if jwk.get("kty") == kind and curve in (None, jwk.get("crv")) and named in (None, name):
            yield name


def _key(jwk: Mapping[str, Any], algorithms: tuple[str, ...]) -> VerificationKey:
    fitting = tuple(_fitting(jwk, algorithms))
    identity = jwk.get("kid")
    key = _public(jwt.get_algorithm_by_name(fitting[0]).from_jwk(dict(jwk)))
    return VerificationKey(key, fitting, None if identity is None else str(identity))


def _public(key: Any) -> Any:
    if hasattr(key, "private_bytes"):
        raise _PrivateKeyError
    return key


def _described(jwk: Any) -> str:
    """What may be shown of a key: its kind, algorithm and id."""
    if not isinstance(jwk, dict):
        return type(jwk).__name__
    return ", ".join(f"{name} {jwk[name]!s:.40}" for name in ("kid", "kty", "alg", "use") if name in jwk) or "nameless"
