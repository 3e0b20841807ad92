"""A pool of connections to one PostgreSQL database.

Each step of the ledger is one statement on one connection, in its own transaction. The pool differs from
``psycopg_pool`` in two ways. If the server is down, a request fails at once and the next one tries again, instead of
waiting for retries at growing intervals. A connection that broke while idle is detected by polling its socket, without
a round trip, so that a restart of the server fails only the statements in progress.

After a failover an open connection, or the address that a name had, may lead to a server that is read-only now. Such a
server has not executed the statement. All idle connections are closed then, and the statement is sent on a new connection,
for which the names are resolved anew; of several hosts and addresses the first that accepts writes is used. Any other
statement that may have reached the server is never sent again, unless sending it twice is the same as once.

``synchronous_commit`` is off unless the URL's ``options`` set it: a crash of the server may lose the steps of the last
second but does not damage the database. Losing a few charges is acceptable; synchronous commits would make every
request wait for milliseconds, and callers of one group wait for each other.
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
from modeltoll.ledger.failover import PAUSES
from modeltoll.ledger.postgres_errors import (
    MESSAGES,
    READ_ONLY,
    connection_error,
    is_lost,
    ledger_error,
    was_refused,
)

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence

__all__ = ["CONNECTIONS", "MIGRATIONS", "TIMEOUT", "PostgresPool"]

T = TypeVar("T")

TIMEOUT = 5.0  # seconds for a step, including the wait for a connection
CONNECTIONS = 8  # at most, for each gateway process
# File n brings version n to n + 1.
MIGRATIONS = ("postgres_1.sql", "postgres_2.sql", "postgres_3.sql", "postgres_4.sql", "postgres_5.sql")
PROGRAM = "modeltoll"
LOCK = 0x4D544F4C  # advisory locks: (LOCK, 0) for migrations, (LOCK, 1) for the numbers of the log
GRACE = 1.0  # seconds to cancel a statement that took too long, before its connection is closed

_INSPECT = """
SELECT current_setting('transaction_read_only') = 'on', current_setting('server_encoding'),
    EXISTS (SELECT FROM pg_class WHERE relnamespace = to_regnamespace('modeltoll')),
    EXISTS (SELECT FROM pg_class WHERE relnamespace = to_regnamespace('modeltoll') AND relname = 'meta')
"""
_SESSION = r"-c synchronous_commit=off -c default_transaction_isolation=read\ committed -c statement_timeout={}"


class PostgresPool:
    """Up to ``connections`` connections to one database, given by libpq's ``parameters``.

    ``timeout``: seconds for a step. Without ``create`` the ledger must exist already.
    """

    def __init__(self, parameters: Mapping[str, Any], *, timeout: float, connections: int, create: bool = True) -> None:
        preferred = _SESSION.format(max(1, round(1000 * timeout)))
        self._parameters: dict[str, Any] = {
            "fallback_application_name": PROGRAM,
            "target_session_attrs": "read-write",
            **parameters,
            "client_encoding": "UTF8",
            "options": f"{preferred} {parameters.get('options', '')}",  # of contradicting options the last one counts
        }
        self._create = create
        self._timeout = timeout
        self._connections = connections
        self._slots = asyncio.Semaphore(connections)
        self._idle: list[AsyncConnection] = []
        self._steps: set[asyncio.Task[Any]] = set()
        self._open = False

    async def open(self) -> bytes:
        """Connect, check and migrate; returns the salt of the pseudonyms in the log.

        Raises:
            LedgerError: the server cannot be reached, the database cannot be written, or it is no known ledger.
        """
        self._open = True
        self._slots = asyncio.Semaphore(self._connections)  # of this event loop
        try:
            return await self._in_time(self._prepare())
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Finish the steps in progress, then close all connections."""
        self._open = False
        if self._steps:
            await asyncio.wait(self._steps)
        while self._idle:
            await self._idle.pop().close()

    async def fetch(self, query: str, values: Sequence[Any], *, repeatable: bool = False) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows once it is committed. Cancelling the caller does not stop it.

        ``repeatable``: executing the statement twice is the same as once.

        Raises:
            LedgerError: the server does not answer in time, or refuses; the statement may or may not have been executed.
            ValueError: PostgreSQL cannot store a value.
        """
        if not self._open:
            raise LedgerError("the ledger is not open")
        return await self._in_time(self._fetch(query, values, repeatable))

    async def _in_time(self, step: Coroutine[Any, Any, T]) -> T:
        """Run the step as a separate task, which survives cancellation of the caller and is cancelled at the timeout."""
        task = asyncio.create_task(step)
        self._steps.add(task)
        late = asyncio.get_running_loop().call_later(self._timeout, _cancel, task)
        task.add_done_callback(partial(self._step_done, late))
        await asyncio.wait((task,), timeout=self._timeout)
        if not task.done() or task.cancelled():
            raise LedgerError(MESSAGES["57014"], private=f"{self._address()}: nothing within {self._timeout} s")
        try:
            return task.result()
        except psycopg.DataError as error:
            raise ValueError("a charge or a log entry has a number or a text that the ledger cannot store") from error
        except (psycopg.Error, OSError) as error:
            raise ledger_error(error, self._address()) from error

    def _step_done(self, late: asyncio.TimerHandle, task: asyncio.Task[Any]) -> None:
        late.cancel()
        self._steps.discard(task)
        if not task.cancelled():
            task.exception()  # retrieved here, because the caller may have been cancelled

    async def _fetch(self, query: str, values: Sequence[Any], repeatable: bool) -> list[tuple[Any, ...]]:
        """Run the statement, and repeat it where it was not executed, or may be executed twice."""
        for pause in PAUSES:
            try:
                return await self._attempt(query, values)
            except psycopg.Error as error:
                if not (was_refused(error) or (repeatable and is_lost(error))):
                    raise
            await asyncio.sleep(pause)
        return await self._attempt(query, values)

    async def _attempt(self, query: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        async with self._slots:
            connection = self._take_idle() or await self._connect()
            try:
                cursor = await connection.execute(query, values, prepare=True, binary=True)
                return await cursor.fetchall()
            except psycopg.Error as error:
                if error.sqlstate == READ_ONLY:
                    await connection.close()
                    self._close_idle()
                raise
            finally:
                await self._release(connection)

    async def _connect(self) -> AsyncConnection:
        try:
            return await AsyncConnection.connect(**self._parameters, autocommit=True)
        except psycopg.OperationalError as error:
            raise connection_error(error) from error

    def _close_idle(self) -> None:
        while self._idle:
            self._idle.pop().pgconn.finish()

    def _take_idle(self) -> AsyncConnection | None:
        """An idle connection that is still open, or None. A readable idle connection was closed by the server."""
        while self._idle:
            connection = self._idle.pop()
            poll = select.poll()
            poll.register(connection.fileno(), select.POLLIN)
            if not poll.poll(0):
                return connection
            connection.pgconn.finish()
        return None

    async def _release(self, connection: AsyncConnection) -> None:
        if not self._open or connection.pgconn.transaction_status != TransactionStatus.IDLE:
            await connection.close()
        else:
            self._idle.append(connection)

    async def _prepare(self) -> bytes:
        connection = await self._connect()
        try:
            version = await self._version(connection)
            if not (version or self._create):
                raise LedgerError("there is no ledger in that database", private=self._address())
            if version < len(MIGRATIONS):
                async with connection.transaction():  # of gateways that start at the same time, one migrates
                    # A crash may lose the latest charges, but must not lose the tables of a running gateway.
                    await connection.execute("SET LOCAL synchronous_commit TO on")
                    await connection.execute("SELECT pg_advisory_xact_lock(%s, 0)", (LOCK,))
                    await self._migrate(connection, await self._version(connection))
            cursor = await connection.execute("SELECT salt FROM modeltoll.meta")
            (salt,) = await cursor.fetchone() or (b"",)
            return bytes(salt)
        finally:
            await self._release(connection)

    async def _migrate(self, connection: AsyncConnection, version: int) -> None:
        for name in MIGRATIONS[version:]:
            script = resources.files(__package__).joinpath("sql", name).read_text("utf-8")
            await connection.execute(script)
        if version == 0:
            mark = (PROGRAM, secrets.token_bytes(32))
            await connection.execute("INSERT INTO modeltoll.meta (program, version, salt) VALUES (%s, 0, %s)", mark)
        await connection.execute("UPDATE modeltoll.meta SET version = %s", (len(MIGRATIONS),))

    async def _version(self, connection: AsyncConnection) -> int:
        """The version of the ledger in the database, 0 if there is none. Writes nothing."""
        cursor = await connection.execute(_INSPECT)
        read_only, encoding, schema_exists, marked = await cursor.fetchone() or (True, "", True, False)
        if read_only:
            raise LedgerError(MESSAGES[READ_ONLY], private=self._address())
        if encoding != "UTF8":
            raise LedgerError(f"the ledger's database must have the encoding UTF8, not {encoding}")
        if not schema_exists:
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
                "the schema modeltoll in the ledger's database belongs to another program; give the ledger another database",
                private=self._address(),
            )
        if version > len(MIGRATIONS):
            raise LedgerError(
                f"the ledger has version {version} but this Modeltoll reads versions up to {len(MIGRATIONS)}; "
                "upgrade Modeltoll or give the ledger another database",
                private=self._address(),
            )
        return int(version)

    def _address(self) -> str:
        named = (f"{name}={self._parameters[name]}" for name in ("host", "port", "dbname") if name in self._parameters)
        return " ".join(named)


def _cancel(task: asyncio.Task[Any]) -> None:
    """Cancel the statement on the server; if that takes longer than ``GRACE``, the second call closes the connection."""
    task.cancel()
    asyncio.get_running_loop().call_later(GRACE, task.cancel)
