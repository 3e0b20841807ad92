"""The ledger of many machines: a PostgreSQL database, which any number of gateways share.

A charge is one call of a function in the database (``sql/postgres_1.sql``) with the arithmetic of ``account_math``.
``postgres_pool`` describes connections, errors and what a crash can lose.
"""

from __future__ import annotations

import math
from dataclasses import astuple
from hashlib import blake2b
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar, Self

from psycopg import pq
from psycopg.types.numeric import Int8

from modeltoll.errors import LedgerError
from modeltoll.ledger import account_math, settlement_math
from modeltoll.ledger.postgres_pool import CONNECTIONS, TIMEOUT, PostgresPool
from modeltoll.ledger.postgres_url import OWN_OPTIONS, connection_parameters
from modeltoll.ledger.retention import (
    MAX_ACCOUNTS_AT_ONCE,
    MAX_LINES_AT_ONCE,
    MAX_SLOTS_AT_ONCE,
    Retention,
)
from modeltoll.ledger.row_codec import (
    LOG_COLUMNS,
    OLD_LOG_COLUMNS,
    bounded,
    decode_account,
    decode_line,
    encode_line,
    signed_fingerprint,
)
from modeltoll.ledger.url_options import positive_number, read_options, whole_number
from modeltoll.records import GROUP_SCHEMES, Caller, DailyUsage
from modeltoll.settlement_records import Admission, Standing

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from urllib.parse import SplitResult

    from modeltoll.ledger.retention import Sweep
    from modeltoll.records import Account, Charge, DailyQuota, LogEntry
    from modeltoll.settlement_records import Adjustment, Receipt, Reservation

__all__ = ["PostgresLedger"]

# The SQL is composed of constants only. Numbers whose size may vary are cast or wrapped, so that each statement is
# prepared once.
_ACCOUNT = "model, rows, requests, work, tariff, first_seen, last_seen, measures, leaks, counts"
_CHARGE = (
    f"SELECT key, {_ACCOUNT} FROM modeltoll.charge(%s::bytea[], %s::text[], %s, %s, %s::float8[], %s::int[],"  # noqa: S608
    " %s::bigint[], %s::int, %s::int, %s, %s, %s, %s::int)"
)
_READ = f"SELECT key, {_ACCOUNT} FROM modeltoll.accounts WHERE key = ANY (%s::bytea[])"  # noqa: S608
_CALLERS = " AND ".join(f"NOT starts_with(caller, '{scheme}')" for scheme in GROUP_SCHEMES)
_LARGEST = (
    f"SELECT caller, {_ACCOUNT} FROM modeltoll.accounts WHERE {_CALLERS}"  # noqa: S608
    ' ORDER BY work DESC, caller COLLATE "C", model COLLATE "C" LIMIT %s'
)
_LINE = (*LOG_COLUMNS, *OLD_LOG_COLUMNS)
_NEW_LINE = f"{', '.join(['%s'] * len(LOG_COLUMNS))}, '', ''"
_PAID = "WITH paid AS (UPDATE modeltoll.accounts SET work = work + %s WHERE key = %s)"
_BILL = f"{_PAID} INSERT INTO modeltoll.log ({', '.join(_LINE)}) SELECT {_NEW_LINE} RETURNING line"
# The line is inserted after the adjustment, because it depends on it; so all statements lock in one order.
_BILL_AND_ADJUST = (
    f"{_PAID}, adjusted AS MATERIALIZED (SELECT modeltoll.adjust(%s, %s, %s, %s) AS is_adjusted)"  # noqa: S608
    f" INSERT INTO modeltoll.log ({', '.join(_LINE)}) SELECT {_NEW_LINE} FROM adjusted WHERE is_adjusted RETURNING line"
)
_LOG = f"SELECT line, {', '.join(_LINE)} FROM modeltoll.log WHERE line > %s ORDER BY line LIMIT %s"  # noqa: S608
_SETTLE = (
    "SELECT * FROM modeltoll.settle(%s, %s, %s, %s::bytea[], %s::float8[], %s::float8[], %s::bigint[], %s::float8[],"
    " %s::float8[], %s::float8, %s::float8, %s::float8, %s::float8)"
)
_ADJUST = "SELECT modeltoll.adjust(%s, %s, %s, %s)"
_STANDING = "SELECT unsettled, prepaid, new_account, settled_rows, drained FROM modeltoll.standings WHERE key = %s"
_SWEEP = "SELECT modeltoll.sweep(%s::float8, %s::bigint, %s, %s::int, %s::int, %s::bigint, %s::int)"
_DAY = "SELECT day, rows, work FROM modeltoll.days WHERE key = %s"
_SPEND = "SELECT modeltoll.spend(%s, %s, %s::int, %s, %s, %s, %s)"
_RECEIPT_COLUMNS: dict[str, type[float | int]] = {
    "expires": float,
    "unsettled": float,
    "rows": int,
    "prepaid": float,
    "new_account": float,
}
_RESET = "SELECT modeltoll.reset(%s, %s)"


class PostgresLedger:
    """Accounts and log in the schema ``modeltoll`` of one database. ``half_life`` and ``timeout`` are in seconds.

    ``parameters``: of libpq. ``connections``: size of the pool. Without ``create`` the schema must exist already.
    """

    url_options: ClassVar[frozenset[str]] = OWN_OPTIONS | {
        option.keyword.decode() for option in pq.Conninfo.get_defaults()
    }

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
        self._server = PostgresPool(parameters, timeout=timeout, connections=connections, create=create)
        self._retention = retention or Retention()
        self._half_life = half_life
        self._salt: bytes | None = None

    @classmethod
    def from_url(cls, url: SplitResult, *, half_life: float, create: bool = True) -> Self:
        """For ``postgresql://user:password@host:port/database``; unknown options are passed to libpq.

        Raises:
            SettingsError: libpq does not understand the URL, or an option of the ledger is not a number.
        """
        options = read_options(url)
        return cls(
            connection_parameters(url),
            half_life=half_life,
            timeout=positive_number(options, "timeout", TIMEOUT),
            connections=whole_number(options, "connections", CONNECTIONS),
            retention=Retention.from_options(options),
            create=create,
        )

    async def open(self) -> None:
        """See ``Ledger.open`` and ``PostgresPool.open``."""
        if self._salt is None:
            self._salt = await self._server.open()

    async def close(self) -> None:
        """See ``Ledger.close``."""
        self._salt = None
        await self._server.close()

    async def charge(self, caller: Caller, charge: Charge) -> Account:
        """See ``Ledger.charge``."""
        account_math.check_charge(caller, charge)
        affected = {_key(owner, charge.model): owner for owner in account_math.affected_accounts(caller)}
        keys = sorted(affected)  # the function locks accounts in this order
        values = (
            _array_literal(rf"\x{key.hex()}" for key in keys),
            _array_literal(affected[key].name for key in keys),
            charge.model,
            Int8(charge.rows),
            _array_literal(map(float, charge.leaks)),
            _array_literal(map(int, chain.from_iterable(charge.bins))),
            _array_literal(map(signed_fingerprint, charge.fingerprints)),
            *map(str, charge.shape),
            charge.tariff,
            float(charge.at),
            self._half_life,
            str(account_math.SKETCH_SIZE),
        )
        found = {row[0]: row[1:] for row in await self._server.fetch(_CHARGE, values)}
        own, *groups = [decode_account(owner, found[key]) for key, owner in affected.items()]
        return account_math.with_groups(own, groups)

    async def settle(
        self, caller: Caller, receipts: Sequence[Receipt], reservation: Reservation | None, at: float
    ) -> Admission:
        """See ``Ledger.settle``."""
        settlement_math.check_settlement(caller, receipts, reservation, at)
        usable = settlement_math.unexpired(receipts, at)
        values = (
            _caller_key(caller),
            caller.name,
            float(at),
            [settlement_math.receipt_key(caller, receipt.identity) for receipt in usable],
            *(
                _array_literal([kind(getattr(receipt, name)) for receipt in usable])
                for name, kind in _RECEIPT_COLUMNS.items()
            ),
            *(map(float, astuple(reservation)) if reservation is not None else (None,) * 4),
        )
        (found,) = await self._server.fetch(_SETTLE, values)
        return Admission(*found)

    async def adjust(self, caller: Caller, adjustment: Adjustment) -> None:
        """See ``Ledger.adjust``."""
        settlement_math.check_adjustment(caller, adjustment)
        await self._server.fetch(_ADJUST, _adjustment_values(caller, adjustment))

    async def standing(self, caller: Caller) -> Standing:
        """See ``Ledger.standing``."""
        found = await self._server.fetch(_STANDING, (_caller_key(caller),))
        return Standing(*found[0]) if found else Standing()

    def derived_key(self, purpose: str) -> bytes:
        """See ``Ledger.derived_key``."""
        if self._salt is None:
            raise LedgerError("the ledger is not open")
        return account_math.derived_key(purpose, self._salt)

    async def bill(self, caller: Caller, entry: LogEntry, adjustment: Adjustment | None = None) -> None:
        """See ``Ledger.bill``."""
        account_math.check_log_entry(caller, entry)
        if adjustment is not None:
            settlement_math.check_adjustment(caller, adjustment)
        line = encode_line(self.logged_as(caller), entry)
        columns = [
            Int8(value) if kind is int else kind(value) for value, kind in zip(line, LOG_COLUMNS.values(), strict=True)
        ]
        paid = (float(entry.work.seconds), _key(caller, entry.model))
        if adjustment is None:
            await self._server.fetch(_BILL, (*paid, *columns))
        else:
            await self._server.fetch(_BILL_AND_ADJUST, (*paid, *_adjustment_values(caller, adjustment), *columns))
        if (due := self._retention.sweep(entry.at)) is not None:
            ((more,),) = await self._server.fetch(_SWEEP, _sweep_values(due))
            self._retention.swept(more=more)

    async def spend(self, caller: Caller, more: DailyUsage, quota: DailyQuota) -> bool:
        """See ``Ledger.spend``."""
        account_math.check_usage(caller, more)
        usage = (str(more.day), Int8(more.rows), float(more.work))
        ((covered,),) = await self._server.fetch(
            _SPEND, (_caller_key(caller), caller.name, *usage, *_quota_limits(quota))
        )
        return bool(covered)

    async def spent(self, caller: Caller, day: int) -> DailyUsage:
        """See ``Ledger.spent``."""
        found = await self._server.fetch(_DAY, (_caller_key(caller),))
        return account_math.usage_on(DailyUsage(*found[0]) if found else None, day)

    async def account(self, caller: Caller, model: str, at: float) -> Account | None:
        """See ``Ledger.account``."""
        account_math.check_names(caller, model)
        affected = account_math.affected_accounts(caller)
        keys = [_key(owner, model) for owner in affected]
        found = {row[0]: row[1:] for row in await self._server.fetch(_READ, (keys,))}
        own, *groups = [
            account_math.decayed(decode_account(owner, found[key]), at, self._half_life) if key in found else None
            for key, owner in zip(keys, affected, strict=True)
        ]
        return None if own is None else account_math.with_groups(own, groups)

    async def largest(self, limit: int, at: float) -> Sequence[Account]:
        """See ``Ledger.largest``."""
        found = await self._server.fetch(_LARGEST, (Int8(bounded(limit)),))
        return [account_math.decayed(decode_account(Caller(row[0]), row[1:]), at, self._half_life) for row in found]

    async def log(self, after: int, limit: int) -> Sequence[tuple[int, str, LogEntry]]:
        """See ``Ledger.log``."""
        found = await self._server.fetch(_LOG, (Int8(bounded(after)), Int8(bounded(limit))))
        return [decode_line(number, dict(zip(_LINE, columns, strict=True))) for number, *columns in found]

    def logged_as(self, caller: Caller) -> str:
        """See ``Ledger.logged_as``."""
        return account_math.hashed_name(caller, self._salt or b"")

    async def reset(self, caller: Caller, model: str) -> bool:
        """See ``Ledger.reset``."""
        account_math.check_names(caller, model)
        ((known,),) = await self._server.fetch(_RESET, (_caller_key(caller), _key(caller, model)))
        return bool(known)


def _key(caller: Caller, model: str) -> bytes:
    """The key of an account: one hash of both names, which contain no NUL."""
    return blake2b(f"{caller.name}\0{model}".encode(), digest_size=32).digest()


def _quota_limits(quota: DailyQuota) -> tuple[Int8, float]:
    """The limits as arguments of the SQL function; a missing limit is a number that cannot be reached."""
    rows = bounded(2**63 - 1 if quota.rows is None else quota.rows)
    return Int8(rows), math.inf if quota.work is None else float(quota.work)


def _caller_key(caller: Caller) -> bytes:
    return blake2b(caller.name.encode(), digest_size=32).digest()


def _adjustment_values(caller: Caller, adjustment: Adjustment) -> tuple[bytes, str, float, float]:
    return _caller_key(caller), caller.name, float(adjustment.unsettled), float(adjustment.prepaid)


def _sweep_values(due: Sweep) -> tuple[float | str | None, ...]:
    limits = (MAX_LINES_AT_ONCE, MAX_ACCOUNTS_AT_ONCE, MAX_SLOTS_AT_ONCE, account_math.SKETCH_SIZE)
    return due.lines_before, str(due.days_before), due.expired_before, *map(str, limits)


def _array_literal(values: Iterable[float | str]) -> str:
    """An array literal of PostgreSQL; takes a quarter of the driver's time for a list."""
    return f"{{{','.join([_quoted(value) if isinstance(value, str) else repr(value) for value in values])}}}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", r"\\").replace('"', r"\"")
    return f'"{escaped}"'
