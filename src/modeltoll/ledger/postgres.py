"""The ledger of many machines: a PostgreSQL database, which any number of gateways share.

A charge is one call of a function in the database (``sql/postgres_1.sql``) with the arithmetic of ``account_math``.
``postgres_pool`` describes connections, errors and what a crash can lose.
"""

from __future__ import annotations

import math
from hashlib import blake2b
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar, Self
from urllib.parse import unquote

from psycopg import ProgrammingError, pq
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.numeric import Int8

from modeltoll.errors import SettingsError
from modeltoll.ledger import account_math
from modeltoll.ledger.log_retention import KEEP_LOG_DAYS, MAX_LINES_AT_ONCE, Retention
from modeltoll.ledger.postgres_pool import CONNECTIONS, TIMEOUT, PostgresPool
from modeltoll.ledger.row_codec import (
    LOG_COLUMNS,
    bounded,
    decode_account,
    decode_line,
    encode_line,
    signed_fingerprint,
)
from modeltoll.ledger.url_options import positive_number, read_options, whole_number
from modeltoll.records import GROUP_SCHEMES, Caller, DailyUsage

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from urllib.parse import SplitResult

    from modeltoll.records import Account, Charge, DailyQuota, LogEntry

__all__ = ["PostgresLedger"]

_OWN_OPTIONS = frozenset({"half_life_days", "timeout", "connections", KEEP_LOG_DAYS})
_MALFORMED = (
    "ledger: PostgreSQL does not understand this URL; write postgresql://user:password@host:5432/database, and %40 for"
    " an @ in a password"
)

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
_BILL = (
    "WITH paid AS (UPDATE modeltoll.accounts SET work = work + %s WHERE key = %s)"  # noqa: S608
    f" INSERT INTO modeltoll.log ({', '.join(LOG_COLUMNS)}) VALUES ({', '.join(['%s'] * len(LOG_COLUMNS))}) RETURNING line"
)
_LOG = f"SELECT line, {', '.join(LOG_COLUMNS)} FROM modeltoll.log WHERE line > %s ORDER BY line LIMIT %s"  # noqa: S608
_PRUNE = (
    "DELETE FROM modeltoll.log WHERE line < (SELECT coalesce(min(line) FILTER (WHERE at >= %s), max(line))"  # noqa: S608
    f" FROM (SELECT line, at FROM modeltoll.log ORDER BY line LIMIT {MAX_LINES_AT_ONCE}) AS oldest) RETURNING line"
)
_DAY = "SELECT day, rows, work FROM modeltoll.days WHERE key = %s"
_SPEND = "SELECT modeltoll.spend(%s, %s, %s::int, %s, %s, %s, %s)"
_RESET = "SELECT modeltoll.reset(%s)"


class PostgresLedger:
    """Accounts and log in the schema ``modeltoll`` of one database. ``half_life`` and ``timeout`` are in seconds.

    ``parameters``: of libpq. ``connections``: size of the pool. Without ``create`` the schema must exist already.
    """

    url_options: ClassVar[frozenset[str]] = _OWN_OPTIONS | {
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
            _parameters(url),
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

    async def bill(self, caller: Caller, entry: LogEntry) -> None:
        """See ``Ledger.bill``."""
        account_math.check_log_entry(caller, entry)
        line = encode_line(self.logged_as(caller), entry)
        columns = [
            Int8(value) if kind is int else kind(value) for value, kind in zip(line, LOG_COLUMNS.values(), strict=True)
        ]
        await self._server.fetch(_BILL, (float(entry.work.seconds), _key(caller, entry.model), *columns))
        if (before := self._retention.before(entry.at)) is not None:
            await self._server.fetch(_PRUNE, (before,))

    async def spend(self, caller: Caller, more: DailyUsage, quota: DailyQuota) -> bool:
        """See ``Ledger.spend``."""
        account_math.check_usage(caller, more)
        usage = (str(more.day), Int8(more.rows), float(more.work))
        ((covered,),) = await self._server.fetch(_SPEND, (_day_key(caller), caller.name, *usage, *_quota_limits(quota)))
        return bool(covered)

    async def spent(self, caller: Caller, day: int) -> DailyUsage:
        """See ``Ledger.spent``."""
        found = await self._server.fetch(_DAY, (_day_key(caller),))
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
        return [
            decode_line(row) for row in await self._server.fetch(_LOG, (Int8(bounded(after)), Int8(bounded(limit))))
        ]

    def logged_as(self, caller: Caller) -> str:
        """See ``Ledger.logged_as``."""
        return account_math.hashed_name(caller, self._salt or b"")

    async def reset(self, caller: Caller, model: str) -> bool:
        """See ``Ledger.reset``."""
        account_math.check_names(caller, model)
        ((known,),) = await self._server.fetch(_RESET, (_key(caller, model),))
        return bool(known)


def _parameters(url: SplitResult) -> dict[str, Any]:
    """The connection parameters that libpq reads from the URL, without the options of the ledger."""
    options = [option for option in url.query.split("&") if unquote(option.partition("=")[0]) not in _OWN_OPTIONS]
    try:
        parameters = conninfo_to_dict(f"postgresql://{url.netloc}{url.path}?{'&'.join(options)}")
    except (ProgrammingError, UnicodeError):  # its message may contain the password
        raise SettingsError([_MALFORMED]) from None
    if not all(port.isdecimal() for port in str(parameters.get("port") or 5432).split(",")):
        raise SettingsError([_MALFORMED])
    return dict(parameters)


def _key(caller: Caller, model: str) -> bytes:
    """The key of an account: one hash of both names, which contain no NUL."""
    return blake2b(f"{caller.name}\0{model}".encode(), digest_size=32).digest()


def _quota_limits(quota: DailyQuota) -> tuple[Int8, float]:
    """The limits as arguments of the SQL function; a missing limit is a number that cannot be reached."""
    rows = bounded(2**63 - 1 if quota.rows is None else quota.rows)
    return Int8(rows), math.inf if quota.work is None else float(quota.work)


def _day_key(caller: Caller) -> bytes:
    return blake2b(caller.name.encode(), digest_size=32).digest()


def _array_literal(values: Iterable[float | str]) -> str:
    """An array literal of PostgreSQL; takes a quarter of the driver's time for a list."""
    return f"{{{','.join([_quoted(value) if isinstance(value, str) else repr(value) for value in values])}}}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", r"\\").replace('"', r"\"")
    return f'"{escaped}"'
