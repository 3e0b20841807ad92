"""Read the URL of a ledger on a Valkey or Redis server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from modeltoll.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from urllib.parse import SplitResult

__all__ = ["CERTIFICATES", "DATABASE", "connection_parameters"]

_ENCRYPTED = frozenset({"rediss", "valkeys"})
CERTIFICATES = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"})
DATABASE = "db"  # the option of a Unix socket's URL
_SOCKET = "unix"
_PORT = 6379


def connection_parameters(url: SplitResult, options: Mapping[str, str]) -> dict[str, Any]:
    """The parameters of redis-py's ``Connection`` that the URL and its options give.

    Raises:
        SettingsError: the URL has no host, or an invalid port, number or file.
    """
    if url.scheme == _SOCKET:
        return _socket(url, options)
    if DATABASE in options:
        raise SettingsError([f"ledger: write the database's number as the path: {url.scheme}://host:{_PORT}/0"])
    return {**_address(url), **_encryption(url.scheme, options)}


def _socket(url: SplitResult, options: Mapping[str, str]) -> dict[str, Any]:
    if url.hostname or not url.path.strip("/"):
        raise SettingsError(["ledger: for a Unix socket write unix://user:password@/run/valkey/valkey.sock?db=0"])
    if CERTIFICATES & options.keys():
        raise SettingsError(["ledger: a Unix socket has no TLS; leave ssl_ca_certs and the like out"])
    number = options.get(DATABASE, "0")
    return {"path": unquote(url.path), "db": _database(number, "unix:///run/valkey/valkey.sock?db=0"), **_user(url)}


def _user(url: SplitResult) -> dict[str, Any]:
    return {
        "username": unquote(url.username) if url.username else None,
        "password": unquote(url.password) if url.password else None,
    }


def _database(number: str, example: str) -> int:
    if not (number.isascii() and number.isdecimal()):
        raise SettingsError([f"ledger: the database must be a number; write {example}"])
    return int(number)


def _address(url: SplitResult) -> dict[str, Any]:
    try:
        port = url.port or _PORT
    except ValueError:
        raise SettingsError(
            ["ledger: the port in the URL must be a number from 1 to 65535; write %2F for a / in a password"]
        ) from None
    if not url.hostname:
        raise SettingsError([f"ledger: the URL names no host; write {url.scheme}://user:password@host:{_PORT}/0"])
    number = url.path.removeprefix("/") or "0"
    return {
        "host": unquote(url.hostname),
        "port": port,
        "db": _database(number, f"{url.scheme}://host:{_PORT}/0"),
        **_user(url),
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
