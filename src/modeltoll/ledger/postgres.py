"""The ledger of many machines: a PostgreSQL database, which any number of gateways share.

A charge is one call of a function in the database (``sql/postgres_4.sql``) with the arithmetic of ``account_math``.
``postgres_pool`` describes connections, errors and what a crash can lose.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

from psycopg import pq

from modeltoll.errors import LedgerError
from modeltoll.evidence_records import EVIDENCE_SECONDS
from modeltoll.ledger import account_math, settlement_math
from modeltoll.ledger.postgres_codec import (
    STATE_COLUMNS,
    account_key,
    adjustment_values,
    array_literal,
    bill_values,
    bytes_literal,
    caller_key,
    charge_values,
    decode_state,
    quota_limits,
    sweep_values,
)
from modeltoll.ledger.postgres_pool import CONNECTIONS, TIMEOUT, PostgresPool
from modeltoll.ledger.postgres_url import OWN_OPTIONS, connection_parameters
from modeltoll.ledger.retention import Retention
from modeltoll.ledger.row_codec import LOG_COLUMNS, OLD_LOG_COLUMNS, bounded, decode_line, encode_line
from modeltoll.ledger.url_options import positive_number, read_options, whole_number
from modeltoll.records import GROUP_SCHEMES, Caller, DailyUsage
from modeltoll.settlement_records import Admission, Standing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from urllib.parse import SplitResult

    from modeltoll.evidence_records import EvidenceUpdate
    from modeltoll.records import Account, Charge, DailyQuota, LogEntry
    from modeltoll.settlement_records import Adjustment, Receipt, Reservation

__all__ = ["PostgresLedger"]

# The SQL is composed of constants only. Each statement is prepared once per connection.
_CHARGE = (
    f"SELECT key, {STATE_COLUMNS} FROM modeltoll.charge(%s::bytea[], %s::text[], %s, %s, %s::float8[], %s::int[],"  # noqa: S608
    " %s::bigint[], %s::int, %s, %s, %s, %s::bigint[], %s::int)"
)
_READ = f"SELECT key, {STATE_COLUMNS} FROM modeltoll.account_states WHERE key = ANY (%s::bytea[])"  # noqa: S608
_CALLERS = " AND ".join(f"NOT starts_with(caller, '{scheme}')" for scheme in GROUP_SCHEMES)
_LARGEST = (
    f"SELECT {STATE_COLUMNS} FROM modeltoll.account_states WHERE {_CALLERS}"  # noqa: S608
    ' ORDER BY work DESC, caller COLLATE "C", model COLLATE "C" LIMIT %s'
)
_LINE = (*LOG_COLUMNS, *OLD_LOG_COLUMNS)
_NEW_LINE = f"{', '.join(['%s'] * len(LOG_COLUMNS))}, '', ''"
_WRITE = f"INSERT INTO modeltoll.log ({', '.join(_LINE)}) SELECT {_NEW_LINE}"
_CHANGE_ACCOUNTS = (
    "SELECT modeltoll.bill_accounts(%s::bytea[], %s::float8[], %s::text[], %s::float8[], %s::int[], %s::int[], %s::bigint[],"
    " %s::float8[]) FROM written"
)
_BILL = f"WITH written AS ({_WRITE} RETURNING line) {_CHANGE_ACCOUNTS}"
# Each part depends on the one before it, so that all statements lock in one order.
_BILL_AND_ADJUST = (
    "WITH adjusted AS MATERIALIZED (SELECT modeltoll.adjust(%s, %s, %s, %s) AS is_adjusted),"  # noqa: S608
    f" written AS ({_WRITE} FROM adjusted WHERE is_adjusted RETURNING line) {_CHANGE_ACCOUNTS}"
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
_WRITE_PROBE = "UPDATE modeltoll.meta SET program = program WHERE salt = %s RETURNING version"
_RECEIPT_COLUMNS: dict[str, type[float | int]] = {
    "expires": float,
    "unsettled": float,
    "rows": int,
    "prepaid": float,
    "new_account": float,
}
_RESET = "SELECT modeltoll.reset(%s, %s)"


class PostgresLedger:
    """Accounts and log in the schema ``modeltoll`` of one database.

    ``parameters``: of libpq. ``period``: seconds after which the evidence of an account starts anew. ``timeout``: seconds
    for a step. ``connections``: size of the pool. Without ``create`` the schema must exist already.
    """

    url_options: ClassVar[frozenset[str]] = OWN_OPTIONS | {
        option.keyword.decode() for option in pq.Conninfo.get_defaults()
    }

    def __init__(
        self,
        parameters: Mapping[str, Any],
        *,
        period: float = EVIDENCE_SECONDS,
        timeout: float = TIMEOUT,
        connections: int = CONNECTIONS,
        retention: Retention | None = None,
        create: bool = True,
    ) -> None:
        self._server = PostgresPool(parameters, timeout=timeout, connections=connections, create=create)
        self._retention = retention or Retention()
        self._period = period
        self._salt: bytes | None = None

    @classmethod
    def from_url(cls, url: SplitResult, *, period: float, create: bool = True) -> Self:
        """For ``postgresql://user:password@host:port/database``; unknown options are passed to libpq.

        Raises:
            SettingsError: libpq does not understand the URL, or an option of the ledger is not a number.
        """
        options = read_options(url)
        return cls(
            connection_parameters(url),
            period=period,
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

    async def check_writable(self) -> None:
        """See ``Ledger.check_writable``."""
        if not await self._server.fetch(_WRITE_PROBE, (self._salt,), repeatable=True):
            raise LedgerError("the ledger's database holds another ledger than before; restart the gateway")

    async def charge(self, caller: Caller, charge: Charge) -> Account:
        """See ``Ledger.charge``."""
        account_math.check_charge(caller, charge)
        affected = {account_key(owner, charge.model): owner for owner in account_math.affected_accounts(caller)}
        found = await self._server.fetch(_CHARGE, charge_values(affected, charge, self._period))
        states = {row[0]: row[1:] for row in found}
        own, *groups = [decode_state(owner, states[key]) for key, owner in affected.items()]
        return account_math.with_groups(own, groups)

    async def settle(
        self, caller: Caller, receipts: Sequence[Receipt], reservation: Reservation | None, at: float
    ) -> Admission:
        """See ``Ledger.settle``."""
        settlement_math.check_settlement(caller, receipts, reservation, at)
        usable = settlement_math.unexpired(receipts, at)
        values = (
            caller_key(caller),
            caller.name,
            float(at),
            bytes_literal(settlement_math.receipt_key(caller, receipt.identity) for receipt in usable),
            *(
                array_literal([kind(getattr(receipt, name)) for receipt in usable])
                for name, kind in _RECEIPT_COLUMNS.items()
            ),
            *(map(float, settlement_math.reservation_numbers(reservation)) if reservation is not None else (None,) * 4),
        )
        (found,) = await self._server.fetch(_SETTLE, values, repeatable=reservation is None)
        return Admission(*found)

    async def adjust(self, caller: Caller, adjustment: Adjustment) -> None:
        """See ``Ledger.adjust``."""
        settlement_math.check_adjustment(caller, adjustment)
        await self._server.fetch(_ADJUST, adjustment_values(caller, adjustment))

    async def standing(self, caller: Caller) -> Standing:
        """See ``Ledger.standing``."""
        found = await self._server.fetch(_STANDING, (caller_key(caller),), repeatable=True)
        return Standing(*found[0]) if found else Standing()

    def derived_key(self, purpose: str) -> bytes:
        """See ``Ledger.derived_key``."""
        if self._salt is None:
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
        columns = [kind(value) for value, kind in zip(line, LOG_COLUMNS.values(), strict=True)]
        changes = bill_values(caller, entry.model, entry.work.seconds, updates)
        if adjustment is None:
            await self._server.fetch(_BILL, (*columns, *changes))
        else:
            await self._server.fetch(_BILL_AND_ADJUST, (*adjustment_values(caller, adjustment), *columns, *changes))
        if (due := self._retention.sweep(entry.at)) is not None:
            ((more,),) = await self._server.fetch(_SWEEP, sweep_values(due), alone=True)
            self._retention.swept(more=more)

    async def spend(self, caller: Caller, more: DailyUsage, quota: DailyQuota) -> bool:
        """See ``Ledger.spend``."""
        account_math.check_usage(caller, more)
        usage = (more.day, more.rows, float(more.work))
        ((covered,),) = await self._server.fetch(
            _SPEND, (caller_key(caller), caller.name, *usage, *quota_limits(quota))
        )
        return bool(covered)

    async def spent(self, caller: Caller, day: int) -> DailyUsage:
        """See ``Ledger.spent``."""
        found = await self._server.fetch(_DAY, (caller_key(caller),), repeatable=True)
        return account_math.usage_on(DailyUsage(*found[0]) if found else None, day)

    async def account(self, caller: Caller, model: str) -> Account | None:
        """See ``Ledger.account``."""
        account_math.check_names(caller, model)
        affected = account_math.affected_accounts(caller)
        keys = [account_key(owner, model) for owner in affected]
        found = {row[0]: row[1:] for row in await self._server.fetch(_READ, (bytes_literal(keys),), repeatable=True)}
        own, *groups = [
            decode_state(owner, found[key]) if key in found else None for key, owner in zip(keys, affected, strict=True)
        ]
        return None if own is None else account_math.with_groups(own, groups)

    async def largest(self, limit: int) -> Sequence[Account]:
        """See ``Ledger.largest``."""
        found = await self._server.fetch(_LARGEST, (bounded(limit),), repeatable=True, alone=True)
        return [decode_state(Caller(row[0]), row) for row in found]

    async def log(self, after: int, limit: int) -> Sequence[tuple[int, str, LogEntry]]:
        """See ``Ledger.log``."""
        found = await self._server.fetch(_LOG, (bounded(after), bounded(limit)), repeatable=True, alone=True)
        return [decode_line(number, dict(zip(_LINE, columns, strict=True))) for number, *columns in found]

    def logged_as(self, caller: Caller) -> str:
        """See ``Ledger.logged_as``."""
        return account_math.hashed_name(caller, self._salt or b"")

    async def reset(self, caller: Caller, model: str) -> bool:
        """See ``Ledger.reset``."""
        account_math.check_names(caller, model)
        ((known,),) = await self._server.fetch(_RESET, (caller_key(caller), account_key(caller, model)))
        return bool(known)
