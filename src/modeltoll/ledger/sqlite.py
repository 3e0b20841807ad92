"""The ledger of one machine: a SQLite file, which any number of gateway processes share.

``sqlite_open`` describes how the file is opened, ``sqlite_connection`` what a power cut can lose.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self
from urllib.parse import unquote

from modeltoll.errors import LedgerError, SettingsError
from modeltoll.evidence_records import EVIDENCE_SECONDS
from modeltoll.ledger import account_math, settlement_math, sqlite_accounts, sqlite_standings
from modeltoll.ledger.retention import KEEP_LOG_DAYS, Retention
from modeltoll.ledger.row_codec import (
    LOG_COLUMNS,
    OLD_LOG_COLUMNS,
    bounded,
    decode_line,
    encode_line,
)
from modeltoll.ledger.sqlite_connection import PATIENCE, SqliteConnection
from modeltoll.ledger.sqlite_sweep import sweep
from modeltoll.ledger.url_options import read_options
from modeltoll.records import DailyUsage
from modeltoll.settlement_records import Standing

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence
    from urllib.parse import SplitResult

    from modeltoll.evidence_records import EvidenceUpdate
    from modeltoll.ledger.retention import Sweep
    from modeltoll.records import Account, Caller, Charge, DailyQuota, LogEntry
    from modeltoll.settlement_records import Adjustment, Admission, Receipt, Reservation

__all__ = ["SqliteLedger"]

LARGE_ROWS = 64  # requests of more rows are charged in the file's thread, so that others do not wait for them

_DAY = "SELECT day, rows, work FROM days WHERE caller = ?"
_SPEND = "INSERT OR REPLACE INTO days (caller, day, rows, work) VALUES (?, ?, ?, ?)"
_LINE = (*LOG_COLUMNS, *OLD_LOG_COLUMNS)
_NEW_LINE = f"{', '.join('?' * len(LOG_COLUMNS))}, '', ''"
_WRITE = f"INSERT INTO log ({', '.join(_LINE)}) VALUES ({_NEW_LINE})"  # noqa: S608  constant names
_READ = f"SELECT line, {', '.join(_LINE)} FROM log WHERE line > ? ORDER BY line LIMIT ?"  # noqa: S608  constant names


class SqliteLedger:
    """Accounts and log in one file.

    ``period``: seconds after which the evidence of an account starts anew. ``patience``: seconds to wait for other
    processes. Without ``create`` the file must be a ledger already.
    """

    url_options: ClassVar[frozenset[str]] = frozenset({KEEP_LOG_DAYS})

    def __init__(
        self,
        path: Path,
        *,
        period: float = EVIDENCE_SECONDS,
        patience: float = PATIENCE,
        retention: Retention | None = None,
        create: bool = True,
    ) -> None:
        self._file = SqliteConnection(path, patience=patience, create=create)
        self._period = period
        self._retention = retention or Retention()
        self._salt = b""

    @classmethod
    def from_url(cls, url: SplitResult, *, period: float, create: bool = True) -> Self:
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
        return cls(Path(name), period=period, retention=Retention.from_options(read_options(url)), create=create)

    async def open(self) -> None:
        """See ``Ledger.open`` and ``SqliteConnection.open``."""
        await self._file.open()
        self._salt = await self._file.transact(_salt)

    async def close(self) -> None:
        """See ``Ledger.close``."""
        self._salt = b""
        await self._file.close()

    async def check_writable(self) -> None:
        """See ``Ledger.check_writable``."""
        await self._file.transact(_rewrite_version)

    async def charge(self, caller: Caller, charge: Charge) -> Account:
        """See ``Ledger.charge``."""
        account_math.check_charge(caller, charge)
        job = partial(sqlite_accounts.charge, caller, charge, self._period)
        return await self._file.transact(job, large=charge.rows > LARGE_ROWS)

    async def settle(
        self, caller: Caller, receipts: Sequence[Receipt], reservation: Reservation | None, at: float
    ) -> Admission:
        """See ``Ledger.settle``."""
        settlement_math.check_settlement(caller, receipts, reservation, at)
        usable = settlement_math.unexpired(receipts, at)
        return await self._file.transact(partial(sqlite_standings.settle, caller, usable, reservation, at))

    async def adjust(self, caller: Caller, adjustment: Adjustment) -> None:
        """See ``Ledger.adjust``."""
        settlement_math.check_adjustment(caller, adjustment)
        await self._file.transact(partial(sqlite_standings.adjust, caller, adjustment))

    async def standing(self, caller: Caller) -> Standing:
        """See ``Ledger.standing``."""
        return await self._file.transact(partial(sqlite_standings.standing, caller)) or Standing()

    def derived_key(self, purpose: str) -> bytes:
        """See ``Ledger.derived_key``."""
        if not self._salt:
            raise LedgerError("the ledger is not open")
        return account_math.derived_key(purpose, self._salt)

    async def bill(
        self,
        caller: Caller,
        entry: LogEntry,
        adjustment: Adjustment | None = None,
        updates: Sequence[EvidenceUpdate] = (),
    ) -> None:
        """See ``Ledger.bill``."""
        account_math.check_log_entry(caller, entry)
        account_math.check_updates(caller, updates)
        if adjustment is not None:
            settlement_math.check_adjustment(caller, adjustment)
        line = encode_line(self.logged_as(caller), entry)
        due = self._retention.sweep(entry.at)
        job = partial(_bill, caller, entry.model, _Bill(entry.work.seconds, line, adjustment, updates, due))
        self._retention.swept(more=await self._file.transact(job, large=due is not None))

    async def spend(self, caller: Caller, more: DailyUsage, quota: DailyQuota) -> bool:
        """See ``Ledger.spend``."""
        account_math.check_usage(caller, more)
        return await self._file.transact(partial(_spend, caller, more, quota))

    async def spent(self, caller: Caller, day: int) -> DailyUsage:
        """See ``Ledger.spent``."""
        return account_math.usage_on(await self._file.transact(partial(_day, caller)), day)

    async def account(self, caller: Caller, model: str) -> Account | None:
        """See ``Ledger.account``."""
        account_math.check_names(caller, model)
        own, *groups = await self._file.transact(partial(sqlite_accounts.read, caller, model))
        return None if own is None else account_math.with_groups(own, groups)

    async def largest(self, limit: int) -> Sequence[Account]:
        """See ``Ledger.largest``."""
        return await self._file.read(partial(sqlite_accounts.largest, bounded(limit)))

    async def log(self, after: int, limit: int) -> Sequence[tuple[int, str, LogEntry]]:
        """See ``Ledger.log``."""
        page = (bounded(after), bounded(limit))
        found = await self._file.read(lambda connection: connection.execute(_READ, page).fetchall())
        return [decode_line(number, dict(zip(_LINE, columns, strict=True))) for number, *columns in found]

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


@dataclass(frozen=True, slots=True)
class _Bill:
    """What a bill stores: issued work in seconds, the values of the log's line, and changes."""

    seconds: float
    line: tuple[Any, ...]
    adjustment: Adjustment | None
    updates: Sequence[EvidenceUpdate]
    due: Sweep | None


def _bill(caller: Caller, model: str, bill: _Bill, connection: sqlite3.Connection) -> bool:
    """Returns whether a sweep that was due may have left something to delete."""
    sqlite_accounts.bill(caller, model, bill.seconds, bill.updates, connection)
    connection.execute(_WRITE, bill.line)
    if bill.adjustment is not None:
        sqlite_standings.adjust(caller, bill.adjustment, connection)
    return bill.due is not None and sweep(bill.due, connection)


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
    sqlite_standings.forget(caller, connection)
    return sqlite_accounts.reset(caller, model, connection)


def _rewrite_version(connection: sqlite3.Connection) -> None:
    """Write the version that the file has, which writes one page."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    connection.execute(f"PRAGMA user_version = {int(version)}")
