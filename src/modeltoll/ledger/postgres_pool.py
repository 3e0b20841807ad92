"""Connections to one PostgreSQL database: opened with care, kept, and replaced when they break.

A few connections are kept. Each step of the ledger is one statement on one of them, in a transaction of its own. The
pool is our own, for two reasons: a server that is down is said at once and asked again at the next request, where
``psycopg_pool`` makes requests wait and asks at growing intervals; and a connection that broke while it was idle is
found out by a look at its socket, without a visit to the server, so that a restart of the server costs nobody an error
unless his own statement was under way. A statement that may have reached the server is never sent again.

``synchronous_commit`` is off unless the URL's ``options`` say otherwise: a crash of the server may lose the steps of
its last second and never breaks the database. A ledger can bear that: a lost charge is a charge less, while a
synchronous disk would make every request wait for milliseconds, and callers of one group for each other.
"""

from __future__ import annotations

import asyncio
import secrets
import select
from functools import partial
from importlib import resources
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from psycopg import AsyncConnection
from psycopg.pq import TransactionStatus

from modeltoll.errors import LedgerError

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence

__all__ = ["CONNECTIONS", "MIGRATIONS", "TIMEOUT", "PostgresPool"]

T = TypeVar("T")

TIMEOUT = 5.0  # seconds that a step may take, waiting for a connection included
CONNECTIONS = 8  # at most, for each gateway process
MIGRATIONS = ("postgres_1.sql", "postgres_2.sql")  # file n brings version n to n + 1
PROGRAM = "modeltoll"
LOCK = 0x4D544F4C  # advisory locks: (LOCK, 0) for migrations, (LOCK, 1) for the numbers of the log
GRACE = 1.0  # seconds in which a statement that took too long may be cancelled before its connection is dropped

_INSPECT = """
SELECT current_setting('transaction_read_only') = 'on', current_setting('server_encoding'),
    EXISTS (SELECT FROM pg_class WHERE relnamespace = to_regnamespace('modeltoll')),
    EXISTS (SELECT FROM pg_class WHERE relnamespace = to_regnamespace('modeltoll') AND relname = 'meta')
"""
_SESSION = r"-c synchronous_commit=off -c default_transaction_isolation=read\ committed -c statement_timeout={}"

# What is said aloud, by SQLSTATE, whole or by its class. No address in it: callers may read it.
_MESSAGES = {
    "25006": "the ledger's database is read-only; name the primary server in the ledger's URL",
    "28": "the ledger's server refuses the user or the password",
    "3D000": "the ledger's database does not exist; create it",
    "42501": "the ledger's database does not let its user do that; let him create the schema modeltoll, or own it",
    "3F000": "the ledger's tables are gone; restart the gateway",
    "42883": "the ledger's tables are gone; restart the gateway",
    "42P01": "the ledger's tables are gone; restart the gateway",
    "53100": "the ledger's disk is full; make room",
    "53300": "the ledger's server takes no more connections; let it take more, or say connections= in the ledger's URL",
    "57014": "the ledger's server takes too long",
    "57P03": "the ledger's server is starting or stopping",
}
# The same for connecting, where PostgreSQL's library says no code but only words; in another language, the last one.
_CONNECTION_MESSAGES = {
    "password authentication failed": _MESSAGES["28"],
    "no password supplied": _MESSAGES["28"],
    "no pg_hba.conf entry": _MESSAGES["28"],
    "authentication failed": _MESSAGES["28"],
    "starting up": _MESSAGES["57P03"],
    "shutting down": _MESSAGES["57P03"],
    "too many clients": _MESSAGES["53300"],
    "too many connections": _MESSAGES["53300"],
    "remaining connection slots": _MESSAGES["53300"],
    "certificate": "the ledger's server and the gateway do not accept each other's certificates",
    "SSL": "the ledger's server and the gateway do not agree on encryption (sslmode)",
    "does not exist": "the ledger's database or its user does not exist; create it",
    "read-only": _MESSAGES["25006"],
}
_UNREACHABLE = "the ledger's server cannot be reached"


class PostgresPool:
    """A database, by PostgreSQL's own connection parameters. ``timeout`` is in seconds.

    Without ``make`` the ledger must be there already.
    """

    def __init__(self, parameters: Mapping[str, Any], *, timeout: float, connections: int, make: bool = True) -> None:
        preferred = _SESSION.format(max(1, round(1000 * timeout)))
        self._parameters: dict[str, Any] = {
            "fallback_application_name": PROGRAM,
            **parameters,
            "client_encoding": "UTF8",
            "options": f"{preferred} {parameters.get('options', '')}",  # of two that contradict, the latter counts
        }
        self._make = make
        self._timeout = timeout
        self._connections = connections
        self._slots = asyncio.Semaphore(connections)
        self._idle: list[AsyncConnection] = []
        self._steps: set[asyncio.Task[Any]] = set()
        self._open = False

    async def open(self) -> bytes:
        """Connect, check and migrate; the salt of the log's hashes.

        Raises:
            LedgerError: the server cannot be reached, the database not written, or it is no ledger that is known.
        """
        self._open = True
        self._slots = asyncio.Semaphore(self._connections)  # of this event loop
        try:
            return await self._in_time(self._prepare())
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Finish what was asked for, then let go of the server."""
        self._open = False
        if self._steps:
            await asyncio.wait(self._steps)
        while self._idle:
            await self._idle.pop().close()

    async def fetch(self, query: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Run one statement, and return its rows once it is committed; a caller that goes away does not stop it.

        Raises:
            LedgerError: the server does not answer in time, or refuses; the statement may or may not have been done.
            ValueError: a value is not one that PostgreSQL can keep.
        """
        if not self._open:
            raise LedgerError("the ledger is not open")
        return await self._in_time(self._fetch(query, values))

    async def _in_time(self, step: Coroutine[Any, Any, T]) -> T:
        """The step as a task of its own, that outlives an impatient caller and is dropped when it takes too long."""
        task = asyncio.create_task(step)
        self._steps.add(task)
        late = asyncio.get_running_loop().call_later(self._timeout, _drop, task)
        task.add_done_callback(partial(self._done, late))
        await asyncio.wait((task,), timeout=self._timeout)
        if not task.done() or task.cancelled():
            raise LedgerError(_MESSAGES["57014"], private=f"{self._place()}: nothing within {self._timeout} s")
        try:
            return task.result()
        except psycopg.DataError as error:
            raise ValueError("an entry or a bill holds a number or a text that the ledger cannot keep") from error
        except (psycopg.Error, OSError) as error:
            raise self._fault(error) from error

    def _done(self, late: asyncio.TimerHandle, task: asyncio.Task[Any]) -> None:
        late.cancel()
        self._steps.discard(task)
        if not task.cancelled():
            task.exception()  # nobody may be left to ask for it

    async def _fetch(self, query: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        async with self._slots:
            connection = self._kept() or await AsyncConnection.connect(**self._parameters, autocommit=True)
            try:
                cursor = await connection.execute(query, values, prepare=True, binary=True)
                return await cursor.fetchall()
            finally:
                await self._put_back(connection)

    def _kept(self) -> AsyncConnection | None:
        """An idle connection that still stands. One from which there is something to read was hung up."""
        while self._idle:
            connection = self._idle.pop()
            look = select.poll()
            look.register(connection.fileno(), select.POLLIN)
            if not look.poll(0):
                return connection
            connection.pgconn.finish()
        return None

    async def _put_back(self, connection: AsyncConnection) -> None:
        if not self._open or connection.pgconn.transaction_status != TransactionStatus.IDLE:
            await connection.close()
        else:
            self._idle.append(connection)

    async def _prepare(self) -> bytes:
        connection = await AsyncConnection.connect(**self._parameters, autocommit=True)
        try:
            version = await self._version(connection)
            if not (version or self._make):
                raise LedgerError("there is no ledger in that database", private=self._place())
            if version < len(MIGRATIONS):
                async with connection.transaction():  # of many gateways that start at once, one does it
                    # A crash may cost the last moment's charges, but never the tables under a gateway that goes on.
                    await connection.execute("SET LOCAL synchronous_commit TO on")
                    await connection.execute("SELECT pg_advisory_xact_lock(%s, 0)", (LOCK,))
                    await self._migrate(connection, await self._version(connection))
            cursor = await connection.execute("SELECT salt FROM modeltoll.meta")
            (salt,) = await cursor.fetchone() or (b"",)
            return bytes(salt)
        finally:
            await self._put_back(connection)

    async def _migrate(self, connection: AsyncConnection, version: int) -> None:
        for name in MIGRATIONS[version:]:
            script = resources.files(__package__).joinpath("sql", name).read_text("utf-8")
            await connection.execute(script)
        if version == 0:
            mark = (PROGRAM, secrets.token_bytes(32))
            await connection.execute("INSERT INTO modeltoll.meta (program, version, salt) VALUES (%s, 0, %s)", mark)
        await connection.execute("UPDATE modeltoll.meta SET version = %s", (len(MIGRATIONS),))

    async def _version(self, connection: AsyncConnection) -> int:
        """The version of the ledger in the database, 0 where there is none; nothing is written."""
        cursor = await connection.execute(_INSPECT)
        read_only, encoding, taken, marked = await cursor.fetchone() or (True, "", True, False)
        if read_only:
            raise LedgerError(_MESSAGES["25006"], private=self._place())
        if encoding != "UTF8":
            raise LedgerError(f"the ledger's database must have the encoding UTF8, not {encoding}")
        if not taken:
            return 0
        try:
            cursor = await connection.execute("SELECT program, version FROM modeltoll.meta")
            program, version = await cursor.fetchone() or ("", 0)
        except psycopg.errors.UndefinedColumn:
            marked = False
        except psycopg.errors.UndefinedTable:
            marked = False
        if not marked or program != PROGRAM:
            raise LedgerError(
                "the schema modeltoll in the ledger's database is another program's; give the ledger another database",
                private=self._place(),
            )
        if version > len(MIGRATIONS):
            raise LedgerError(
                f"the ledger has version {version} and this Modeltoll knows none above {len(MIGRATIONS)}; "
                "upgrade Modeltoll or give the ledger another database",
                private=self._place(),
            )
        return int(version)

    def _place(self) -> str:
        named = (f"{name}={self._parameters[name]}" for name in ("host", "port", "dbname") if name in self._parameters)
        return " ".join(named)

    def _fault(self, error: Exception) -> LedgerError:
        code, said = getattr(error, "sqlstate", None) or "", str(error)
        public = _MESSAGES.get(code) or _MESSAGES.get(code[:2])
        if public is None and not code:
            public = next((mend for words, mend in _CONNECTION_MESSAGES.items() if words in said), _UNREACHABLE)
        private = f"{self._place()}: {type(error).__name__} {code}: {said}"
        return LedgerError(public or "the ledger's server does not answer", private=private)


def _drop(task: asyncio.Task[Any]) -> None:
    """Ask the server to stop; where it does not answer that either, the second call closes the connection."""
    task.cancel()
    asyncio.get_running_loop().call_later(GRACE, task.cancel)
