"""The ledger of many machines, in memory: a Valkey or Redis server, which any number of gateways share.

A charge is one script on the server (``lua/charge.lua``) with the arithmetic of ``account_math``. What a restart of the
server loses depends on its settings; with ``appendonly yes`` it is the last second. ``valkey_connection`` describes
connections and errors.
"""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self
from urllib.parse import unquote

import msgspec

from modeltoll.errors import LedgerError, SettingsError
from modeltoll.ledger import account_math
from modeltoll.ledger.log_retention import KEEP_LOG_DAYS, MAX_LINES_AT_ONCE, Retention
from modeltoll.ledger.row_codec import LOG_COLUMNS, bounded, decode_account, decode_line, encode_line
from modeltoll.ledger.url_options import positive_number, read_options, whole_number
from modeltoll.ledger.valkey_connection import CONNECTIONS, TIMEOUT, ValkeyConnection
from modeltoll.records import Caller, DailyUsage

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from urllib.parse import SplitResult

    from modeltoll.records import Account, Charge, DailyQuota, LogEntry

__all__ = ["ValkeyLedger"]

# The braces put all keys into one slot of a cluster, so that a script may use any of them.
_MARK, _LOG, _LINE, _RANKING = "{modeltoll}:ledger", "{modeltoll}:log", "{modeltoll}:line", "{modeltoll}:ranking"
_ACCOUNT, _SKETCH, _DAY = "{modeltoll}:account:", "{modeltoll}:sketch:", "{modeltoll}:day:"
_DAY_SECONDS = 3 * 86_400  # lifetime of a day's usage

_ENCRYPTED = frozenset({"rediss", "valkeys"})
_CERTIFICATES = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"})
_PORT = 6379


class _StoredAccount(msgspec.Struct):
    """An account as stored on the server; ``counts`` are flattened. ``learned``: fingerprints ever added to the sketch."""

    caller: str
    model: str
    rows: int
    requests: int
    work: float
    tariff: str
    first_seen: float
    last_seen: float
    measures: int
    leaks: tuple[float, ...]
    counts: tuple[float, ...]
    learned: int


class _LuaNumbers(msgspec.Struct):
    """The numbers of a charge, for the Lua script."""

    rows: int
    leaks: tuple[float, ...]
    bins: tuple[tuple[int, ...], ...]
    shape: tuple[int, int]
    at: float


_PACKER = msgspec.msgpack.Encoder(enc_hook=float)  # the hook is for numpy's floats
_UNPACKER = msgspec.msgpack.Decoder(_StoredAccount)


class ValkeyLedger:
    """Accounts and log under keys that begin with ``{modeltoll}``. ``half_life`` and ``timeout`` are in seconds.

    ``parameters``: of redis-py's ``Connection``. ``connections``: size of the pool. Without ``create`` the ledger must
    exist already.
    """

    url_options: ClassVar[frozenset[str]] = _CERTIFICATES | {"timeout", "connections", KEEP_LOG_DAYS}

    def __init__(
        self,
        parameters: Mapping[str, Any],
        *,
        half_life: float = account_math.HALF_LIFE,
        timeout: float = TIMEOUT,
        connections: int = CONNECTIONS,
        retention: Retention | None = None,
        create: bool = True,
    ) -> None:
        self._server = ValkeyConnection(parameters, timeout=timeout, connections=connections, create=create)
        self._retention = retention or Retention()
        self._half_life = half_life
        self._salt: bytes | None = None

    @classmethod
    def from_url(cls, url: SplitResult, *, half_life: float, create: bool = True) -> Self:
        """For ``valkey://user:password@host:port/number`` or ``redis://``; ``valkeys://`` and ``rediss://`` use TLS.

        Raises:
            SettingsError: the URL has no host, or an invalid port, number, file or option.
        """
        options = read_options(url)
        return cls(
            {**_address(url), **_encryption(url.scheme, options)},
            half_life=half_life,
            timeout=positive_number(options, "timeout", TIMEOUT),
            connections=whole_number(options, "connections", CONNECTIONS),
            retention=Retention.from_options(options),
            create=create,
        )

    async def open(self) -> None:
        """See ``Ledger.open`` and ``ValkeyConnection.open``."""
        if self._salt is None:
            self._salt = await self._server.open(_MARK)

    async def close(self) -> None:
        """See ``Ledger.close``."""
        self._salt = None
        await self._server.close()

    async def charge(self, caller: Caller, charge: Charge) -> Account:
        """See ``Ledger.charge``."""
        account_math.check_charge(caller, charge)
        affected = account_math.affected_accounts(caller)
        names = [_account_name(owner, charge.model) for owner in affected]
        keys = [_RANKING, *chain.from_iterable((_ACCOUNT + name, _SKETCH + name) for name in names)]
        ranked = "" if caller.is_group else names[0]
        values = [
            _PACKER.encode(_LuaNumbers(charge.rows, charge.leaks, charge.bins, charge.shape, charge.at)),
            b"".join(charge.fingerprints),
            charge.model,
            charge.tariff,
            self._half_life,
            account_math.SKETCH_SIZE,
            ranked,
            *(owner.name for owner in affected),
        ]
        after = await self._server.run("charge", keys, values)
        own, *groups = map(_decode, affected, after)
        return account_math.with_groups(own, groups)

    async def bill(self, caller: Caller, entry: LogEntry) -> None:
        """See ``Ledger.bill``."""
        account_math.check_log_entry(caller, entry)
        name = _account_name(caller, entry.model)
        line = encode_line(self.logged_as(caller), entry)
        fields = chain.from_iterable(
            (name, kind(value)) for (name, kind), value in zip(LOG_COLUMNS.items(), line, strict=True)
        )
        before = self._retention.before(entry.at)
        values = [float(entry.work.seconds), name, "" if before is None else before, MAX_LINES_AT_ONCE, *fields]
        await self._server.run("bill", [_LOG, _RANKING, _ACCOUNT + name, _LINE], values)

    async def spend(self, caller: Caller, more: DailyUsage, quota: DailyQuota) -> bool:
        """See ``Ledger.spend``."""
        account_math.check_usage(caller, more)
        limits = ["" if limit is None else limit for limit in (quota.rows, quota.work)]
        usage = [more.day, more.rows, float(more.work)]
        return bool(await self._server.run("spend", [_DAY + caller.name], [*usage, *limits, _DAY_SECONDS]))

    async def spent(self, caller: Caller, day: int) -> DailyUsage:
        """See ``Ledger.spent``."""
        day_found, rows, work = await self._server.ask("HMGET", _DAY + caller.name, "day", "rows", "work")
        stored = None if day_found is None else DailyUsage(int(day_found), int(rows), float(work))
        return account_math.usage_on(stored, day)

    async def account(self, caller: Caller, model: str, at: float) -> Account | None:
        """See ``Ledger.account``."""
        account_math.check_names(caller, model)
        affected = account_math.affected_accounts(caller)
        found = await self._server.ask("MGET", *(_ACCOUNT + _account_name(owner, model) for owner in affected))
        own, *groups = [
            None if stored is None else account_math.decayed(_decode(owner, stored), at, self._half_life)
            for owner, stored in zip(affected, found, strict=True)
        ]
        return None if own is None else account_math.with_groups(own, groups)

    async def largest(self, limit: int, at: float) -> Sequence[Account]:
        """See ``Ledger.largest``."""
        if limit <= 0:
            return []
        found = await self._server.run("largest", [_RANKING], [bounded(limit) - 1, _ACCOUNT])
        return [account_math.decayed(_decode(None, stored), at, self._half_life) for stored in found]

    async def log(self, after: int, limit: int) -> Sequence[tuple[int, str, LogEntry]]:
        """See ``Ledger.log``."""
        if limit <= 0:
            return []
        start = f"{bounded(after) + 1}-0"
        found = await self._server.ask("XRANGE", _LOG, start, "+", "COUNT", bounded(limit))
        return [_decode_line(number, fields.values()) for number, fields in found]

    def logged_as(self, caller: Caller) -> str:
        """See ``Ledger.logged_as``."""
        return account_math.hashed_name(caller, self._salt or b"")

    async def reset(self, caller: Caller, model: str) -> bool:
        """See ``Ledger.reset``."""
        account_math.check_names(caller, model)
        name = _account_name(caller, model)
        return bool(await self._server.run("reset", [_RANKING, _ACCOUNT + name, _SKETCH + name], [name]))


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
    files = {name: value for name, value in options.items() if name in _CERTIFICATES}
    faults = [f"ledger: {name}: there is no such file" for name, value in files.items() if not Path(value).is_file()]
    if scheme in _ENCRYPTED:
        if faults:
            raise SettingsError(faults)
        return {"ssl": True, "ssl_check_hostname": True, **files}
    if files:
        raise SettingsError([f"ledger: {', '.join(sorted(files))} can be used with rediss:// and valkeys:// only"])
    return {}


def _account_name(caller: Caller, model: str) -> str:
    """The account's member in the ranking and the end of its keys; unique, because names contain no NUL."""
    return f"{caller.name}\0{model}"


def _decode(caller: Caller | None, stored: bytes) -> Account:
    try:
        account: _StoredAccount = _UNPACKER.decode(stored)
    except msgspec.MsgspecError as error:
        raise LedgerError("the ledger holds an account that is damaged", private=str(error)) from error
    return decode_account(
        caller or Caller(account.caller),
        (
            account.model,
            account.rows,
            account.requests,
            account.work,
            account.tariff,
            account.first_seen,
            account.last_seen,
            account.measures,
            account.leaks,
            account.counts,
        ),
    )


def _decode_line(number: bytes, values: Iterable[bytes]) -> tuple[int, str, LogEntry]:
    columns = (kind(value.decode()) for kind, value in zip(LOG_COLUMNS.values(), values, strict=True))
    return decode_line((int(number.partition(b"-")[0]), *columns))
