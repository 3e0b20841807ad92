"""Identifies the caller of a request: by its key or token, else by the address that it comes from."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from modeltoll.errors import CallerRefused
from modeltoll.gateway.callers.forwarded import UNIX, Address, Network, ProxyTrust
from modeltoll.record_init import quick_init
from modeltoll.records import Caller, DailyQuota

__all__ = ["CallerIdentifier", "Credentials", "RequestIdentity", "Tier", "hash_key"]

_IPV6_PREFIX = 64  # of the network that one IPv6 caller has to itself
_NEIGHBOURS = {4: 24, 6: 48}  # by version: prefix length of the group that every anonymous caller belongs to


def hash_key(key: str) -> str:
    """The stored form of an API key: its SHA-256 in hexadecimal. Keys are random, so no salt or stretching is needed."""
    return hashlib.sha256(key.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Tier:
    """The terms of callers: exempt or not, ``multiplier`` of the price of their rows, and their daily quota if any."""

    exempt: bool = False
    multiplier: float = 1.0
    quota: DailyQuota | None = None

    def caller(self, name: str, groups: tuple[str, ...] = (), *, discount: float = 0.0) -> Caller:
        """A caller of this tier. A multiplier below 1 is a discount beside the caller's own; suspicion ends both."""
        if self.multiplier < 1.0:
            discount = 1.0 - self.multiplier * (1.0 - discount)
        return Caller(name, self.exempt, groups, discount, max(1.0, self.multiplier), self.quota)


@quick_init
@dataclass(frozen=True, slots=True)
class RequestIdentity:
    """The parts of a request that identify its caller.

    ``peer`` is the address of the other end of the connection; empty, or no address, where it has none (a Unix socket).
    ``forwarded_for`` and ``forwarded`` are the values of ``X-Forwarded-For`` and ``Forwarded``, their lines joined with
    commas.
    """

    authorization: str | None
    api_key: str | None
    peer: str
    forwarded_for: str | None
    forwarded: str | None = None


class Credentials(Protocol):
    """One kind of key or token that identifies callers."""

    def caller(self, credential: str) -> Caller | None:
        """The caller of a credential; None where it is not of this kind.

        Raises:
            CallerRefused: it is of this kind, and it is not valid or has expired.
        """


@dataclass(frozen=True, slots=True)
class CallerIdentifier:
    """Identifies callers.

    ``keys`` maps hashed API keys to callers; any other credential is tried on ``credentials``, one after the other.
    Anonymous callers, where ``anonymous`` admits them, are single addresses: ``net:198.51.100.7`` of IPv4, and the /64 of an
    IPv6 address, ``net:2001:db8:1:2::/64``; all that have no address, such as peers of a Unix socket, are the one caller
    ``net:unix``. They have the tier ``anonymous_tier``. Their /24 or /48 is a group of theirs, and so are the networks of
    the prefix lengths in ``ipv4_prefixes`` and ``ipv6_prefixes``. ``X-Forwarded-For`` and ``Forwarded`` count only as far
    as ``trusted_proxies`` wrote them, and peers of Unix sockets where ``trusts_unix``.
    """

    keys: Mapping[str, Caller] = field(default_factory=dict)
    anonymous: bool = True
    trusted_proxies: Sequence[Network] = ()
    trusts_unix: bool = False
    ipv4_prefixes: Sequence[int] = ()
    ipv6_prefixes: Sequence[int] = ()
    anonymous_tier: Tier = Tier()
    credentials: Sequence[Credentials] = ()

    def identify(self, identity: RequestIdentity) -> Caller:
        """The caller of a request.

        Raises:
            CallerRefused: the credential is not known, or there is none and anonymous callers are not admitted.
        """
        credential = _credential(identity)
        if credential is not None:
            return self._with_credential(credential)
        if not self.anonymous:
            raise CallerRefused("an API key is needed")
        trust = ProxyTrust(self.trusted_proxies, self.trusts_unix)
        address = trust.client(identity.peer, identity.forwarded_for or "", identity.forwarded or "")
        if address is None:
            return self.anonymous_tier.caller(f"net:{UNIX}")
        wider = self.ipv4_prefixes if address.version == 4 else self.ipv6_prefixes
        lengths = dict.fromkeys((_NEIGHBOURS[address.version], *wider))
        groups = tuple([f"prefix:{_network(address, length)}" for length in lengths])
        single = address if address.version == 4 else _network(address, _IPV6_PREFIX)
        return self.anonymous_tier.caller(f"net:{single}", groups)

    def _with_credential(self, credential: str) -> Caller:
        caller = self.keys.get(hash_key(credential))
        if caller is not None:
            return caller
        for kind in self.credentials:
            caller = kind.caller(credential)
            if caller is not None:
                return caller
        raise CallerRefused("the API key is not known")


def _credential(identity: RequestIdentity) -> str | None:
    """The key from ``Authorization: Bearer KEY`` or ``X-Api-Key: KEY``."""
    scheme, _, value = (identity.authorization or "").partition(" ")
    if scheme.lower() == "bearer" and value.strip():
        return value.strip()
    return identity.api_key or None


def _network(address: Address, prefix: int) -> Network:
    return ipaddress.ip_network((address.packed, prefix), strict=False)
