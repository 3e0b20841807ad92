"""The ledger of many machines: a PostgreSQL database that any number of gateways share.

A charge is one call of a function in the database (``sql/postgres_1.sql``), whose arithmetic is that of ``book.py``.
How the database is reached, what is refused and what a crash can lose stands in ``postgresserver.py``.
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

_OURS = frozenset({"half_life_days", "timeout", "connections", KEEP_LOG_DAYS})
_MALFORMED = (
    "ledger: PostgreSQL does not understand this URL; write postgresql://user:password@host:5432/database, and %40 for"
    " an @ in a password"
)

# The SQL is put together from names of ours alone. Numbers that come in several sizes are cast or wrapped, so that each
# statement is prepared once.
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

    ``parameters`` are those of PostgreSQL's own library; ``connections`` are how many at most are kept. Without
    ``make`` the schema must be there already.
    """

    url_options: ClassVar[frozenset[str]] = _OURS | {option.keyword.decode() for option in pq.Conninfo.get_defaults()}

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
        self._server = PostgresPool(parameters, timeout=timeout, connections=connections, make=make)
        self._retention = retention or Retention()
        self._half_life = half_life
        self._salt: bytes | None = None

    @classmethod
    def from_url(cls, url: SplitResult, *, half_life: float, make: bool = True) -> Self:
        """``postgresql://user:password@host:port/database``; other options are those of PostgreSQL's library.

        Raises:
            SettingsError: PostgreSQL's library does not understand the URL, or an option of ours is no number.
        """
        options = read_options(url)
        return cls(
            _parameters(url),
            half_life=half_life,
            timeout=positive_number(options, "timeout", TIMEOUT),
            connections=whole_number(options, "connections", CONNECTIONS),
            retention=Retention.from_options(options),
            make=make,
        )

    async def open(self) -> None:
        """See ``Ledger.open`` and ``PostgresPool.open``."""
        if self._salt is None:
            self._salt = await self._server.open()

    async def close(self) -> None:
        """See ``Ledger.close``."""
        self._salt = None
        await self._server.close()

    async def charge(self, caller: Caller, entry: Charge) -> Account:
        """See ``Ledger.charge``; raises ``ValueError`` for an entry that would spoil the account."""
        account_math.check_charge(caller, entry)
        parties = {_key(party, entry.model): party for party in account_math.affected_accounts(caller)}
        keys = sorted(parties)  # as the function wants them
        values = (
            _array_literal(rf"\x{key.hex()}" for key in keys),
            _array_literal(parties[key].name for key in keys),
            entry.model,
            Int8(entry.rows),
            _array_literal(map(float, entry.leaks)),
            _array_literal(map(int, chain.from_iterable(entry.bins))),
            _array_literal(map(signed_fingerprint, entry.fingerprints)),
            *map(str, entry.shape),
            entry.tariff,
            float(entry.at),
            self._half_life,
            str(account_math.SKETCH_SIZE),
        )
        found = {row[0]: row[1:] for row in await self._server.fetch(_CHARGE, values)}
        own, *shared = [decode_account(party, found[key]) for key, party in parties.items()]
        return account_math.with_groups(own, shared)

    async def bill(self, caller: Caller, bill: LogEntry) -> None:
        """See ``Ledger.bill``; raises ``ValueError`` for a bill that would spoil the account."""
        account_math.check_log_entry(caller, bill)
        line = encode_line(self.logged_as(caller), bill)
        columns = [
            Int8(value) if kind is int else kind(value) for value, kind in zip(line, LOG_COLUMNS.values(), strict=True)
        ]
        await self._server.fetch(_BILL, (float(bill.work.seconds), _key(caller, bill.model), *columns))
        if (before := self._retention.before(bill.at)) is not None:
            await self._server.fetch(_PRUNE, (before,))

    async def spend(self, caller: Caller, more: DailyUsage, quota: DailyQuota) -> bool:
        """See ``Ledger.spend``."""
        account_math.check_usage(caller, more)
        had = (str(more.day), Int8(more.rows), float(more.work))
        ((covered,),) = await self._server.fetch(_SPEND, (_day_key(caller), caller.name, *had, *_quota_limits(quota)))
        return bool(covered)

    async def spent(self, caller: Caller, day: int) -> DailyUsage:
        """See ``Ledger.spent``."""
        found = await self._server.fetch(_DAY, (_day_key(caller),))
        return account_math.usage_on(DailyUsage(*found[0]) if found else None, day)

    async def account(self, caller: Caller, model: str, at: float) -> Account | None:
        """See ``Ledger.account``."""
        account_math.check_names(caller, model)
        parties = account_math.affected_accounts(caller)
        keys = [_key(party, model) for party in parties]
        found = {row[0]: row[1:] for row in await self._server.fetch(_READ, (keys,))}
        own, *shared = [
            account_math.decayed(decode_account(party, found[key]), at, self._half_life) if key in found else None
            for key, party in zip(keys, parties, strict=True)
        ]
        return None if own is None else account_math.with_groups(own, shared)

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
    """What PostgreSQL's library reads from the URL; options of ours are not for it."""
    theirs = [option for option in url.query.split("&") if unquote(option.partition("=")[0]) not in _OURS]
    try:
        parameters = conninfo_to_dict(f"postgresql://{url.netloc}{url.path}?{'&'.join(theirs)}")
    except (ProgrammingError, UnicodeError):  # what it says may show the password
        raise SettingsError([_MALFORMED]) from None
    if not all(port.isdecimal() for port in str(parameters.get("port") or 5432).split(",")):
        raise SettingsError([_MALFORMED])
    return dict(parameters)


def _key(caller: Caller, model: str) -> bytes:
    """One hash of both names, which hold no NUL."""
    return blake2b(f"{caller.name}\0{model}".encode(), digest_size=32).digest()


def _quota_limits(quota: DailyQuota) -> tuple[Int8, float]:
    """The limits as the function takes them: where there is none, numbers that nothing reaches."""
    rows = bounded(2**63 - 1 if quota.rows is None else quota.rows)
    return Int8(rows), math.inf if quota.work is None else float(quota.work)


def _day_key(caller: Caller) -> bytes:
    return blake2b(caller.name.encode(), digest_size=32).digest()


def _array_literal(values: Iterable[float | str]) -> str:
    """An array as PostgreSQL reads it: a quarter of the time that the driver takes for a list."""
    return f"{{{','.join([_quoted(value) if isinstance(value, str) else repr(value) for value in values])}}}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", r"\\").replace('"', r"\"")
    return f'"{escaped}"'
