"""Where a request comes from, behind proxies: reads ``X-Forwarded-For`` and ``Forwarded`` (RFC 7239) from the right.

Each proxy appends the address that it was asked from. So the rightmost entry is the one that the nearest proxy wrote, and
what stands left of an entry counts only if a trusted proxy is at that entry's address. What cannot be read ends the walk:
the caller is then the last proxy known, an identity that no caller can choose.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

__all__ = ["UNIX", "Address", "Network", "ProxyTrust", "read_address"]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

UNIX = "unix"  # in settings: peers without an IP address, for which nginx writes "unix:"
_PORT = "(?::[0-9]{1,5})?"
_BRACKETED = re.compile(rf"\[([^\[\]]*)\]{_PORT}")
_WITH_PORT = re.compile(r"(.+):[0-9]{1,5}")
_PAIR = r"""[!#$%&'*+.^_`|~0-9A-Za-z-]+=(?:"(?:[^"\\]|\\.)*"|[^\s",;=]*)"""  # unquoted colons and brackets are common
_ELEMENT = re.compile(rf"{_PAIR}(?:[ \t]*;[ \t]*{_PAIR})*;?")
_FOR = re.compile(r"for=(.*)", re.IGNORECASE)
_ESCAPED = re.compile(r"\\(.)")
_MOST_HOPS = 32
_MOST_CHARACTERS = 4096  # of a header, from its right
_UNREADABLE = "unknown"  # an identifier of RFC 7239 that is no address


@dataclass(frozen=True, slots=True)
class ProxyTrust:
    """Which proxies are trusted: those at addresses of ``networks``; if ``unix``, those that ask over a Unix socket."""

    networks: Sequence[Network] = ()
    unix: bool = False

    def client(self, peer: str, forwarded_for: str = "", forwarded: str = "") -> Address | None:
        """The address of the client: the rightmost one that no trusted proxy has; None for a client without an address.

        ``peer``: the other end of the connection; not an address if it is a Unix socket. ``forwarded_for``, ``forwarded``:
        the values of both headers, all lines joined with commas, empty if there are none. A proxy that writes one of them
        may pass on the other as its client wrote it; so where both are there and do not agree, the client is the peer.
        """
        nearest = read_address(peer)
        if not self._trusts(nearest):
            return nearest
        found = []
        forwarded_for, forwarded = _end(forwarded_for), _end(forwarded)
        if forwarded_for:
            found.append(self._walk(nearest, (hop.strip() for hop in reversed(forwarded_for.split(",")))))
        if forwarded:
            found.append(self._walk(nearest, map(_for_value, _elements_from_right(forwarded))))
        return found[0] if found and all(client == found[0] for client in found) else nearest

    def _walk(self, nearest: Address | None, hops: Iterable[str]) -> Address | None:
        client = nearest
        for hop in islice(filter(None, hops), _MOST_HOPS):
            if not self._trusts(client):
                break
            address = read_address(hop)
            if address is None and hop != f"{UNIX}:":
                break
            client = address
        return client

    def _trusts(self, address: Address | None) -> bool:
        return self.unix if address is None else any(address in network for network in self.networks)


def read_address(text: str) -> Address | None:
    """An IP address, with or without a port, brackets or a zone; None if it is none. An IPv4-mapped address is one of IPv4."""
    bracketed = _BRACKETED.fullmatch(text)
    for written in (bracketed[1],) if bracketed else (text, _WITH_PORT.sub(r"\1", text)):
        with suppress(ValueError):
            address = ipaddress.ip_address(written)
            mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
            return mapped or address
    return None


def _end(value: str) -> str:
    """The end of a header that is very long, without the entry that is cut."""
    if len(value) <= _MOST_CHARACTERS:
        return value
    return f"{_UNREADABLE},{value[-_MOST_CHARACTERS:].partition(',')[2]}"


def _elements_from_right(value: str) -> Iterator[str]:
    """The elements of a ``Forwarded`` header, the last one first. No open quote of a caller reaches what proxies appended."""
    end, quoted = len(value), False
    for at in range(len(value) - 1, -1, -1):
        if value[at] == '"':
            before = at
            while before and value[before - 1] == "\\":
                before -= 1
            quoted ^= not (quoted and (at - before) % 2)  # an escaped quote ends nothing
        elif value[at] == "," and not quoted:
            yield value[at + 1 : end]
            end = at
    yield value[:end]


def _for_value(element: str) -> str:
    """The value of ``for`` in an element of ``Forwarded``; ``unknown`` where it has none, or has it twice, or cannot be read."""
    element = element.strip()
    if not element:
        return ""
    if not _ELEMENT.fullmatch(element):
        return _UNREADABLE
    values = [found[1] for pair in re.findall(_PAIR, element) if (found := _FOR.fullmatch(pair))]
    if len(values) != 1:
        return _UNREADABLE
    plain = _ESCAPED.sub(r"\1", values[0][1:-1]) if values[0].startswith('"') else values[0]
    return plain or _UNREADABLE
