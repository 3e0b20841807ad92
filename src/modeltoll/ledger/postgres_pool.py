"""A pool of connections to one PostgreSQL database.

Each step of the ledger is one statement in its own transaction. The statements of one turn of the event loop share a round
trip (``step_groups``, ``postgres_connection``). A connection that broke while idle is detected by polling its socket, without
a round trip, so that a restart of the server fails only the statements in progress.

``synchronous_commit`` is off unless the URL's ``options`` set it: a crash of the server may lose the steps of the last
second but does not damage the database. Losing a few charges is acceptable; synchronous commits would make every
request wait for milliseconds, and callers of one group wait for each other.
"""

from __future__ import annotations

import asyncio
import secrets
from importlib import resources
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import AsyncConnection

from modeltoll.errors import LedgerError
from modeltoll.ledger.postgres_connection import PostgresConnection, Statement
from modeltoll.ledger.postgres_errors import (
    MESSAGES,
    READ_ONLY,
    connection_error,
    is_lost,
    ledger_error,
    was_refused,
)
from modeltoll.ledger.step_groups import StepGroups

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["CONNECTIONS", "MIGRATIONS", "TIMEOUT", "PostgresPool"]

TIMEOUT = 5.0  # seconds for a step, including the wait for a connection
CONNECTIONS = 8  # at most, for each gateway process
# File n brings version n to n + 1.
MIGRATIONS = ("postgres_1.sql", "postgres_2.sql", "postgres_3.sql", "postgres_4.sql", "postgres_5.sql")
PROGRAM = "modeltoll"
LOCK = 0x4D544F4C  # advisory locks: (LOCK, 0) for migrations, (LOCK, 1) for the numbers of the log

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
        self._groups: StepGroups[Statement] = StepGroups(self, timeout=timeout, connections=connections)

    async def open(self) -> bytes:
        """Connect, check and migrate; returns the salt of the pseudonyms in the log.

        Raises:
            LedgerError: the server cannot be reached, the database cannot be written, or it is no known ledger.
        """
        try:
            async with asyncio.timeout(self._groups.timeout):
                salt = await self._prepare()
        except (psycopg.Error, OSError) as error:  # TimeoutError is an OSError
            raise self.public_error(error) from error
        self._groups.open()
        return salt

    async def close(self) -> None:
        """Finish the steps in progress, then close all connections."""
        await self._groups.close()

    async def fetch(
        self, query: str, values: Sequence[Any], *, repeatable: bool = False, alone: bool = False
    ) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows once it is committed. Cancelling the caller does not stop it.

        ``repeatable``: executing the statement twice is the same as once. ``alone``: it may take long; others do not wait.

        Raises:
            LedgerError: the server does not answer in time, or refuses; the statement may or may not have been executed.
            ValueError: PostgreSQL cannot store a value.
        """
        statement = Statement.of(query, values)
        rows: list[tuple[Any, ...]] = await self._groups.run(statement, repeatable=repeatable, alone=alone)
        return rows

    async def connect(self) -> PostgresConnection:
        """See ``GroupServer.connect``."""
        return PostgresConnection(await self._connect())

    def was_refused(self, error: Exception) -> bool:
        """See ``GroupServer.was_refused``."""
        return isinstance(error, psycopg.Error) and was_refused(error)

    def is_no_primary(self, error: Exception) -> bool:
        """See ``GroupServer.is_no_primary``."""
        return isinstance(error, psycopg.Error) and error.sqlstate == READ_ONLY

    def is_lost(self, error: Exception) -> bool:
        """See ``GroupServer.is_lost``."""
        return isinstance(error, psycopg.Error) and is_lost(error)

    def public_error(self, error: Exception) -> Exception:
        """See ``GroupServer.public_error``."""
        if isinstance(error, TimeoutError):
            return LedgerError(MESSAGES["57014"], private=f"{self._address()}: {error}")
        if isinstance(error, psycopg.DataError):
            return ValueError("a charge or a log entry has a number or a text that the ledger cannot store")
        return ledger_error(error, self._address())

    async def _connect(self) -> AsyncConnection:
        try:
            return await AsyncConnection.connect(**self._parameters, autocommit=True)
        except psycopg.OperationalError as error:
            raise connection_error(error) from error

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
            await connection.close()

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
