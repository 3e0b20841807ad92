"""Which requests the sidecar serves: those of programs on this machine, and not those that web pages cause.

The sidecar has no password and may hold no key of its own, but it works for whoever asks. A page of another site can make a
browser ask it, across origins, or under a name of its own that leads to this machine (DNS rebinding).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from modeltoll.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["SidecarAccess", "sidecar_access"]

_NAME = re.compile(r"[\w.:-]+")
_OWN_SITE = ("same-origin", "none")  # of Sec-Fetch-Site; none: typed into the address bar


@dataclass(frozen=True, slots=True)
class SidecarAccess:
    """``hosts``: further names under which programs reach the sidecar. ``origins``: of the pages that may use it."""

    hosts: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()

    def refusal(self, headers: Mapping[str, str], hosts: Iterable[str], address: str) -> str | None:
        """The reason to refuse a request, or None.

        Args:
            headers: of the request, with any case of names.
            hosts: every ``Host`` header of the request.
            address: the sidecar's own address on this connection.
        """
        named = list(hosts)
        for host in named:
            if not self._is_own(host, address):
                return "this proxy does not serve that host name; start it with --host-name to allow it"
        origin = headers.get("Origin")
        if origin is not None and origin.lower() in self.origins:
            return None
        if origin is not None and origin.lower() not in {f"http://{host}".lower() for host in named}:
            return "this proxy does not serve pages of other origins; start it with --allow-origin to allow one"
        if headers.get("Sec-Fetch-Site", "none").lower() not in _OWN_SITE:
            return "this proxy does not serve requests that pages of other sites cause"
        return None

    def _is_own(self, host: str, address: str) -> bool:
        name = _host_name(host)
        if name in self.hosts or name == "localhost" or name.endswith(".localhost"):
            return True
        try:
            ip = ipaddress.ip_address(name)
        except ValueError:
            return False
        return ip.is_loopback or name == address.partition("%")[0]


def _host_name(host: str) -> str:
    """The name in a ``Host`` header, without port, brackets and the dot at its end; empty if there is none."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def sidecar_access(hosts: Iterable[str] = (), origins: Iterable[str] = ()) -> SidecarAccess:
    """From the values of the options ``--host-name`` and ``--allow-origin``.

    Raises:
        SettingsError: a host name with a port or a path, or an origin that is not ``scheme://host[:port]``.
    """
    faults = [
        f"--host-name: {host!r} is not a host name or address; leave out scheme, port and path"
        for host in hosts
        if not _NAME.fullmatch(host) or _host_name(f"[{host}]" if ":" in host else host) != host.lower().rstrip(".")
    ]
    for origin in origins:
        scheme, _, rest = origin.partition("://")
        if scheme.lower() not in ("http", "https") or not rest or set(rest) & set("/?#@ "):
            faults.append(f"--allow-origin: {origin!r} is not an origin; write for example https://app.example.org")
    if faults:
        raise SettingsError(faults)
    return SidecarAccess(
        frozenset(host.lower().rstrip(".") for host in hosts), frozenset(origin.lower() for origin in origins)
    )
