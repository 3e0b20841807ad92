"""The ledger of many machines, in memory: a Valkey or Redis server that any number of gateways share.

A charge is one script on the server (``lua/charge.lua``), whose arithmetic is that of ``book.py``. What a restart of
the server forgets is the server's own setting; with ``appendonly yes`` it is the last second. How the server is
reached stands in ``valkeyserver.py``.
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

# All keys begin alike, and the braces keep them in one slot of a cluster: a script may touch any of them.
_MARK, _LOG, _LINE, _RANKING = "{modeltoll}:ledger", "{modeltoll}:log", "{modeltoll}:line", "{modeltoll}:ranking"
_ACCOUNT, _SKETCH, _DAY = "{modeltoll}:account:", "{modeltoll}:sketch:", "{modeltoll}:day:"
_DAY_SECONDS = 3 * 86_400  # a day that nobody asks for any more

_ENCRYPTED = frozenset({"rediss", "valkeys"})
_CERTIFICATES = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"})
_PORT = 6379


class _StoredAccount(msgspec.Struct):
    """An account as the server keeps it; counts row after row. ``learned`` counts what the sketch has ever taken in."""

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
    """The numbers of an entry."""

    rows: int
    leaks: tuple[float, ...]
    bins: tuple[tuple[int, ...], ...]
    shape: tuple[int, int]
    at: float


_PACKER = msgspec.msgpack.Encoder(enc_hook=float)  # numpy has floats of its own
_UNPACKER = msgspec.msgpack.Decoder(_StoredAccount)


class ValkeyLedger:
    """Accounts and log under keys that begin with ``{modeltoll}``. ``half_life`` and ``timeout`` are in seconds.

    ``parameters`` are those of a connection of redis-py; ``connections`` are how many at most are kept. Without
    ``make`` the ledger must be there already.
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
        make: bool = True,
    ) -> None:
        self._server = ValkeyConnection(parameters, timeout=timeout, connections=connections, make=make)
        self._retention = retention or Retention()
        self._half_life = half_life
        self._salt: bytes | None = None

    @classmethod
    def from_url(cls, url: SplitResult, *, half_life: float, make: bool = True) -> Self:
        """``valkey://user:password@host:port/number``, or ``redis://``; with an s at the end, encrypted.

        Raises:
            SettingsError: the URL names no host, or has a port, number, file or option that cannot be.
        """
        options = read_options(url)
        return cls(
            {**_address(url), **_encryption(url.scheme, options)},
            half_life=half_life,
            timeout=positive_number(options, "timeout", TIMEOUT),
            connections=whole_number(options, "connections", CONNECTIONS),
            retention=Retention.from_options(options),
            make=make,
        )

    async def open(self) -> None:
        """See ``Ledger.open`` and ``ValkeyConnection.open``."""
        if self._salt is None:
            self._salt = await self._server.open(_MARK)

    async def close(self) -> None:
        """See ``Ledger.close``."""
        self._salt = None
        await self._server.close()

    async def charge(self, caller: Caller, entry: Charge) -> Account:
        """See ``Ledger.charge``; raises ``ValueError`` for an entry that would spoil the account."""
        account_math.check_charge(caller, entry)
        parties = account_math.affected_accounts(caller)
        places = [_account_name(party, entry.model) for party in parties]
        keys = [_RANKING, *chain.from_iterable((_ACCOUNT + place, _SKETCH + place) for place in places)]
        ranked = "" if caller.is_group else places[0]
        values = [
            _PACKER.encode(_LuaNumbers(entry.rows, entry.leaks, entry.bins, entry.shape, entry.at)),
            b"".join(entry.fingerprints),
            entry.model,
            entry.tariff,
            self._half_life,
            account_math.SKETCH_SIZE,
            ranked,
            *(party.name for party in parties),
        ]
        after = await self._server.run("charge", keys, values)
        own, *shared = map(_decode, parties, after)
        return account_math.with_groups(own, shared)

    async def bill(self, caller: Caller, bill: LogEntry) -> None:
        """See ``Ledger.bill``; raises ``ValueError`` for a bill that would spoil the account."""
        account_math.check_log_entry(caller, bill)
        place = _account_name(caller, bill.model)
        line = encode_line(self.logged_as(caller), bill)
        fields = chain.from_iterable(
            (name, kind(value)) for (name, kind), value in zip(LOG_COLUMNS.items(), line, strict=True)
        )
        before = self._retention.before(bill.at)
        values = [float(bill.work.seconds), place, "" if before is None else before, MAX_LINES_AT_ONCE, *fields]
        await self._server.run("bill", [_LOG, _RANKING, _ACCOUNT + place, _LINE], values)

    async def spend(self, caller: Caller, more: DailyUsage, quota: DailyQuota) -> bool:
        """See ``Ledger.spend``."""
        account_math.check_usage(caller, more)
        most = ["" if limit is None else limit for limit in (quota.rows, quota.work)]
        had = [more.day, more.rows, float(more.work)]
        return bool(await self._server.run("spend", [_DAY + caller.name], [*had, *most, _DAY_SECONDS]))

    async def spent(self, caller: Caller, day: int) -> DailyUsage:
        """See ``Ledger.spent``."""
        kept = await self._server.ask("HMGET", _DAY + caller.name, "day", "rows", "work")
        known = None if kept[0] is None else DailyUsage(int(kept[0]), int(kept[1]), float(kept[2]))
        return account_math.usage_on(known, day)

    async def account(self, caller: Caller, model: str, at: float) -> Account | None:
        """See ``Ledger.account``."""
        account_math.check_names(caller, model)
        parties = account_math.affected_accounts(caller)
        found = await self._server.ask("MGET", *(_ACCOUNT + _account_name(party, model) for party in parties))
        own, *shared = [
            None if kept is None else account_math.decayed(_decode(party, kept), at, self._half_life)
            for party, kept in zip(parties, found, strict=True)
        ]
        return None if own is None else account_math.with_groups(own, shared)

    async def largest(self, limit: int, at: float) -> Sequence[Account]:
        """See ``Ledger.largest``."""
        if limit <= 0:
            return []
        found = await self._server.run("largest", [_RANKING], [bounded(limit) - 1, _ACCOUNT])
        return [account_math.decayed(_decode(None, kept), at, self._half_life) for kept in found]

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
        place = _account_name(caller, model)
        return bool(await self._server.run("reset", [_RANKING, _ACCOUNT + place, _SKETCH + place], [place]))


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
        raise SettingsError([f"ledger: {', '.join(sorted(files))} mean something with rediss:// and valkeys:// only"])
    return {}


def _account_name(caller: Caller, model: str) -> str:
    """The account's member in the ranking and the end of its keys; names hold no NUL, so that no two are alike."""
    return f"{caller.name}\0{model}"


def _decode(caller: Caller | None, kept: bytes) -> Account:
    try:
        account: _StoredAccount = _UNPACKER.decode(kept)
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
