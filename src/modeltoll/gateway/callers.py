"""Who is asking: an API key, else the network that the request comes from."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from modeltoll.errors import CallerRefused
from modeltoll.records import Caller

__all__ = ["Callers", "Knock", "hash_key"]

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_IPV4_PREFIX = 24
_IPV6_PREFIX = 48


def hash_key(key: str) -> str:
    """How API keys are kept: their SHA-256 in hexadecimal. Keys are random, so no salt or stretching is needed."""
    return hashlib.sha256(key.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Knock:
    """What a request says of who sends it; ``peer`` is the address of the TCP connection."""

    authorization: str | None
    api_key: str | None
    peer: str
    forwarded_for: str | None


@dataclass(frozen=True, slots=True)
class Callers:
    """The list at the door.

    ``keys`` maps hashed API keys to callers. Anonymous callers are known by their network (/24 or /48), if they are
    admitted at all. ``X-Forwarded-For`` counts only as far as it was written by ``trusted_proxies``. ``ipv4_prefixes``
    and ``ipv6_prefixes`` are lengths of wider networks: the groups that anonymous callers belong to.
    """

    keys: Mapping[str, Caller] = field(default_factory=dict)
    anonymous: bool = True
    trusted_proxies: Sequence[_Network] = ()
    ipv4_prefixes: Sequence[int] = ()
    ipv6_prefixes: Sequence[int] = ()

    def identify(self, knock: Knock) -> Caller:
        """Name the caller.

        Raises:
            CallerRefused: the key is not known, or there is none and anonymous callers are not admitted.
        """
        key = _presented(knock)
        if key is not None:
            caller = self.keys.get(hash_key(key))
            if caller is None:
                raise CallerRefused("the API key is not known")
            return caller
        if not self.anonymous:
            raise CallerRefused("an API key is needed")
        network = self._network(knock)
        prefixes = self.ipv4_prefixes if network.version == 4 else self.ipv6_prefixes
        return Caller(
            f"net:{network}", groups=tuple([f"prefix:{network.supernet(new_prefix=length)}" for length in prefixes])
        )

    def _network(self, knock: Knock) -> _Network:
        address = _address(knock.peer)
        hops = [part.strip() for part in (knock.forwarded_for or "").split(",") if part.strip()]
        while hops and self._trusted(address):
            address = _address(hops.pop())
        prefix = _IPV4_PREFIX if address.version == 4 else _IPV6_PREFIX
        return ipaddress.ip_network((address, prefix), strict=False)

    def _trusted(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
        return any(address in network for network in self.trusted_proxies)


def _presented(knock: Knock) -> str | None:
    """The key from ``Authorization: Bearer KEY`` or ``X-Api-Key: KEY``."""
    scheme, _, value = (knock.authorization or "").partition(" ")
    if scheme.lower() == "bearer" and value.strip():
        return value.strip()
    return knock.api_key or None


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise CallerRefused("the caller's address cannot be read") from None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
