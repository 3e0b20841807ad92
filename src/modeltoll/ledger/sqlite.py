"""The ledger of one machine: a SQLite file, which any number of gateway processes share.

``sqlite_open`` describes how the file is opened, ``sqlite_connection`` what a power cut can lose.
"""

from __future__ import annotations

import struct
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self
from urllib.parse import unquote

from modeltoll.errors import SettingsError
from modeltoll.ledger import account_math
from modeltoll.ledger.log_retention import KEEP_LOG_DAYS, MAX_LINES_AT_ONCE, Retention
from modeltoll.ledger.row_codec import (
    LOG_COLUMNS,
    bounded,
    decode_account,
    decode_line,
    encode_line,
    json_text,
    signed_fingerprint,
)
from modeltoll.ledger.sqlite_connection import PATIENCE, SqliteConnection
from modeltoll.ledger.url_options import read_options
from modeltoll.records import GROUP_SCHEMES, Caller, DailyUsage

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence
    from urllib.parse import SplitResult

    from modeltoll.records import Account, Charge, DailyQuota, LogEntry

__all__ = ["SqliteLedger"]

LARGE_ROWS = 64  # requests of more rows are charged in the file's thread, so that others do not wait for them

_ACCOUNT = (
    "SELECT id, learned, caller, model, rows, requests, work, tariff, first_seen, last_seen, measures, leaks, counts"
    " FROM accounts"
)
_FIND = f"{_ACCOUNT} WHERE caller = ? AND model = ?"
_CALLERS = " AND ".join(f"caller NOT GLOB '{scheme}*'" for scheme in GROUP_SCHEMES)
_LARGEST = f"{_ACCOUNT} WHERE {_CALLERS} ORDER BY work DESC, caller, model LIMIT ?"
_ADD = (
    "INSERT INTO accounts (learned, rows, requests, tariff, last_seen, measures, leaks, counts,"
    " caller, model, work, first_seen) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_CHANGE = (
    "UPDATE accounts SET learned = ?, rows = ?, requests = ?, tariff = ?, last_seen = ?, measures = ?, leaks = ?,"
    " counts = ? WHERE id = ?"
)
_SEEN_ONE = "SELECT fingerprint FROM sketch WHERE account = ? AND fingerprint = ?"
_SEEN = "SELECT fingerprint FROM sketch WHERE account = ? AND fingerprint IN (SELECT value FROM json_each(?))"
_LEARN = "INSERT OR REPLACE INTO sketch (account, slot, fingerprint) VALUES (?, ?, ?)"
_FORGET = ("DELETE FROM sketch WHERE account = ?", "DELETE FROM accounts WHERE id = ?")
_WORK = "UPDATE accounts SET work = work + ? WHERE caller = ? AND model = ?"
_DAY = "SELECT day, rows, work FROM days WHERE caller = ?"
_SPEND = "INSERT OR REPLACE INTO days (caller, day, rows, work) VALUES (?, ?, ?, ?)"
_LINE = ", ".join(LOG_COLUMNS)
_WRITE = f"INSERT INTO log ({_LINE}) VALUES ({', '.join('?' * len(LOG_COLUMNS))})"  # noqa: S608  constant names
_PRUNE = (
    "DELETE FROM log WHERE line < (SELECT coalesce(min(line) FILTER (WHERE at >= ?), max(line))"  # noqa: S608  a constant number
    f" FROM (SELECT line, at FROM log ORDER BY line LIMIT {MAX_LINES_AT_ONCE}))"
)
_READ = f"SELECT line, {_LINE} FROM log WHERE line > ? ORDER BY line LIMIT ?"  # noqa: S608  constant names


class SqliteLedger:
    """Accounts and log in one file. ``half_life`` and ``patience`` (wait for other processes) are in seconds.

    Without ``create`` the file must be a ledger already.
    """

    url_options: ClassVar[frozenset[str]] = frozenset({KEEP_LOG_DAYS})

    def __init__(
        self,
        path: Path,
        *,
        half_life: float = account_math.HALF_LIFE,
        patience: float = PATIENCE,
        retention: Retention | None = None,
        create: bool = True,
    ) -> None:
        self._file = SqliteConnection(path, patience=patience, create=create)
        self._half_life = half_life
        self._retention = retention or Retention()
        self._salt = b""

    @classmethod
    def from_url(cls, url: SplitResult, *, half_life: float, create: bool = True) -> Self:
        """For ``sqlite:///relative.db`` or ``sqlite:////absolute.db``.

        Raises:
            SettingsError: the URL has a host, no file name, or names SQLite's memory database.
        """
        if url.netloc or not url.path.startswith("/"):
            raise SettingsError(
                ["ledger: write sqlite:///relative.db or sqlite:////absolute.db, with three or four slashes"]
            )
        name = unquote(url.path[1:])
        if not name.strip("/") or "\0" in name:
            raise SettingsError(["ledger: the URL names no file; write sqlite:///relative.db"])
        if name == ":memory:":
            raise SettingsError(["ledger: for a ledger without a file write memory://"])
        return cls(Path(name), half_life=half_life, retention=Retention.from_options(read_options(url)), create=create)

    async def open(self) -> None:
        """See ``Ledger.open`` and ``SqliteConnection.open``."""
        await self._file.open()
        self._salt = await self._file.transact(_salt)

    async def close(self) -> None:
        """See ``Ledger.close``."""
        await self._file.close()

    async def charge(self, caller: Caller, charge: Charge) -> Account:
        """See ``Ledger.charge``."""
        account_math.check_charge(caller, charge)
        job = partial(_charge, caller, charge, self._half_life)
        return await self._file.transact(job, large=charge.rows > LARGE_ROWS)

    async def bill(self, caller: Caller, entry: LogEntry) -> None:
        """See ``Ledger.bill``."""
        account_math.check_log_entry(caller, entry)
        line = encode_line(self.logged_as(caller), entry)
        before = self._retention.before(entry.at)
        await self._file.transact(partial(_bill, caller, entry, line, before), large=before is not None)

    async def spend(self, caller: Caller, more: DailyUsage, quota: DailyQuota) -> bool:
        """See ``Ledger.spend``."""
        account_math.check_usage(caller, more)
        return await self._file.transact(partial(_spend, caller, more, quota))

    async def spent(self, caller: Caller, day: int) -> DailyUsage:
        """See ``Ledger.spent``."""
        return account_math.usage_on(await self._file.transact(partial(_day, caller)), day)

    async def account(self, caller: Caller, model: str, at: float) -> Account | None:
        """See ``Ledger.account``."""
        account_math.check_names(caller, model)
        found = await self._file.transact(partial(_read, caller, model))
        own, *groups = [account and account_math.decayed(account, at, self._half_life) for account in found]
        return None if own is None else account_math.with_groups(own, groups)

    async def largest(self, limit: int, at: float) -> Sequence[Account]:
        """See ``Ledger.largest``."""
        page = (bounded(limit),)
        found = await self._file.read(lambda connection: connection.execute(_LARGEST, page).fetchall())
        return [account_math.decayed(_decode_account(row, Caller(row[2])), at, self._half_life) for row in found]

    async def log(self, after: int, limit: int) -> Sequence[tuple[int, str, LogEntry]]:
        """See ``Ledger.log``."""
        page = (bounded(after), bounded(limit))
        found = await self._file.read(lambda connection: connection.execute(_READ, page).fetchall())
        return [decode_line(row) for row in found]

    def logged_as(self, caller: Caller) -> str:
        """See ``Ledger.logged_as``."""
        return account_math.hashed_name(caller, self._salt)

    async def reset(self, caller: Caller, model: str) -> bool:
        """See ``Ledger.reset``."""
        account_math.check_names(caller, model)
        return await self._file.transact(partial(_reset, caller, model))


# Jobs; each runs inside a transaction, possibly in the file's thread.


def _salt(connection: sqlite3.Connection) -> bytes:
    (salt,) = connection.execute("SELECT value FROM meta WHERE name = 'salt'").fetchone()
    return bytes(salt)


def _read(caller: Caller, model: str, connection: sqlite3.Connection) -> list[Account | None]:
    found = [
        (connection.execute(_FIND, (owner.name, model)).fetchone(), owner)
        for owner in account_math.affected_accounts(caller)
    ]
    return [None if row is None else _decode_account(row, owner) for row, owner in found]


def _charge(caller: Caller, charge: Charge, half_life: float, connection: sqlite3.Connection) -> Account:
    own, *groups = [
        _charge_one(owner, charge, half_life, connection) for owner in account_math.affected_accounts(caller)
    ]
    return account_math.with_groups(own, groups)


def _charge_one(caller: Caller, charge: Charge, half_life: float, connection: sqlite3.Connection) -> Account:
    found = connection.execute(_FIND, (caller.name, charge.model)).fetchone()
    if found is None:
        number, learned, before, seen = None, 0, None, set[bytes]()
    else:
        number, learned = found[:2]
        before = _decode_account(found, caller)
        seen = _seen(number, charge.fingerprints, connection)

    after, fresh = account_math.charge(before, caller, charge, seen, half_life)
    values = (
        learned + len(fresh),
        after.rows,
        after.requests,
        after.tariff,
        after.last_seen,
        len(after.counts),
        _pack(after.leaks),
        _pack(chain.from_iterable(after.counts)),
    )
    if number is None:
        new = (caller.name, charge.model, after.work, after.first_seen)
        number = connection.execute(_ADD, values + new).lastrowid
    else:
        connection.execute(_CHANGE, (*values, number))
    ring = account_math.sketch_slots(learned, fresh)
    connection.executemany(_LEARN, [(number, slot, signed_fingerprint(fingerprint)) for slot, fingerprint in ring])
    return after


def _seen(account: int, fingerprints: Sequence[bytes], connection: sqlite3.Connection) -> set[bytes]:
    """Those of the fingerprints that are in the account's sketch."""
    numbers = [signed_fingerprint(fingerprint) for fingerprint in fingerprints]
    if len(numbers) == 1:  # the common case, which avoids a table made from JSON
        found = connection.execute(_SEEN_ONE, (account, numbers[0]))
    else:
        found = connection.execute(_SEEN, (account, json_text(numbers)))
    return {_fingerprint(row[0]) for row in found}


def _bill(
    caller: Caller, entry: LogEntry, line: tuple[Any, ...], before: float | None, connection: sqlite3.Connection
) -> None:
    connection.execute(_WORK, (entry.work.seconds, caller.name, entry.model))
    connection.execute(_WRITE, line)
    if before is not None:
        connection.execute(_PRUNE, (before,))


def _day(caller: Caller, connection: sqlite3.Connection) -> DailyUsage | None:
    found = connection.execute(_DAY, (caller.name,)).fetchone()
    return None if found is None else DailyUsage(*found)


def _spend(caller: Caller, more: DailyUsage, quota: DailyQuota, connection: sqlite3.Connection) -> bool:
    after = account_math.spend(_day(caller, connection), more, quota)
    if after is None:
        return False
    connection.execute(_SPEND, (caller.name, after.day, after.rows, float(after.work)))
    return True


def _reset(caller: Caller, model: str, connection: sqlite3.Connection) -> bool:
    found = connection.execute(_FIND, (caller.name, model)).fetchone()
    if found is None:
        return False
    for statement in _FORGET:
        connection.execute(statement, found[:1])
    return True


# Conversion of columns.


def _decode_account(found: tuple[Any, ...], caller: Caller) -> Account:
    *_, leaks, counts = found
    return decode_account(caller, (*found[3:-2], _unpack(leaks), _unpack(counts)))


def _pack(values: Iterable[float]) -> bytes:
    doubles = tuple(values)
    return struct.pack(f"<{len(doubles)}d", *doubles)


def _unpack(blob: bytes) -> tuple[float, ...]:
    return struct.unpack(f"<{len(blob) // 8}d", blob)


def _fingerprint(number: int) -> bytes:
    return number.to_bytes(account_math.FINGERPRINT_BYTES, "big", signed=True)
