"""Read the URL of a ledger on a Valkey or Redis server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from modeltoll.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from urllib.parse import SplitResult

__all__ = ["CERTIFICATES", "connection_parameters"]

_ENCRYPTED = frozenset({"rediss", "valkeys"})
CERTIFICATES = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"})
_PORT = 6379


def connection_parameters(url: SplitResult, options: Mapping[str, str]) -> dict[str, Any]:
    """The parameters of redis-py's ``Connection`` that the URL and its options give.

    Raises:
        SettingsError: the URL has no host, or an invalid port, number or file.
    """
    return {**_address(url), **_encryption(url.scheme, options)}


def _address(url: SplitResult) -> dict[str, Any]:
    try:
        port = url.port or _PORT
    except ValueError:
        raise SettingsError(["ledger: the port in the URL must be a number from 1 to 65535"]) from None
    if not url.hostname:
        raise SettingsError([f"ledger: the URL names no host; write {url.scheme}://user:password@host:{_PORT}/0"])
    number = url.path.removeprefix("/") or "0"
    if not (number.isascii() and number.isdecimal()):
        raise SettingsError(
            [f"ledger: after the host comes the database's number; write {url.scheme}://host:{_PORT}/0"]
        )
    return {
        "host": unquote(url.hostname),
        "port": port,
        "db": int(number),
        "username": unquote(url.username) if url.username else None,
        "password": unquote(url.password) if url.password else None,
    }


def _encryption(scheme: str, options: Mapping[str, str]) -> dict[str, Any]:
    files = {name: value for name, value in options.items() if name in CERTIFICATES}
    faults = [f"ledger: {name}: there is no such file" for name, value in files.items() if not Path(value).is_file()]
    if scheme in _ENCRYPTED:
        if faults:
            raise SettingsError(faults)
        return {"ssl": True, "ssl_check_hostname": True, **files}
    if files:
        raise SettingsError([f"ledger: {', '.join(sorted(files))} can be used with rediss:// and valkeys:// only"])
    return {}
