"""One connection to a PostgreSQL server, in the pipeline mode of libpq: the statements of a group share a round trip.

Each statement is a transaction of its own, so that one that fails does not fail the others, and no statement holds a lock
while another one waits. Statements are prepared once per connection. Values are sent as texts, except bytes; results are
decoded by psycopg's loaders.
"""

from __future__ import annotations

import asyncio
import select
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.adapt import Transformer
from psycopg.errors import error_from_result
from psycopg.pq import ConnStatus, ExecStatus, Format

from modeltoll.ledger.postgres_errors import OUTDATED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from psycopg import AsyncConnection, abc
    from psycopg.pq.abc import PGconn, PGresult

__all__ = ["PostgresConnection", "Statement"]

_BINARY, _TEXT = Format.BINARY, Format.TEXT
_FAILED = (ExecStatus.FATAL_ERROR, ExecStatus.BAD_RESPONSE)


def _numbered(query: str) -> str:
    """A query whose values are marked ``%s``, with the marks of PostgreSQL: ``$1``, ``$2`` and so on."""
    first, *rest = query.split("%s")
    return first + "".join(f"${number}{part}" for number, part in enumerate(rest, start=1))


@dataclass(frozen=True, slots=True)
class Statement:
    """A query, in which ``%s`` marks each value, and its values as libpq sends them, with the format of each."""

    query: str
    values: list[bytes | None]
    formats: list[Format]

    @classmethod
    def of(cls, query: str, values: Iterable[bytes | float | str | None]) -> Statement:
        """A statement of Python's values. Numbers and texts are sent as texts, whose types the query says, or PostgreSQL infers.

        Raises:
            ValueError: a text is not Unicode text, or has a NUL, which PostgreSQL cannot store.
        """
        data: list[bytes | None] = []
        formats: list[Format] = []
        for value in values:
            if value is None or isinstance(value, bytes):
                data.append(value)
                formats.append(_BINARY)
                continue
            text = value if isinstance(value, str) else str(value)
            if "\0" in text:  # libpq would send what is before it
                raise ValueError("a charge or a log entry has a text that the ledger cannot store")
            data.append(text.encode())
            formats.append(_TEXT)
        return cls(query, data, formats)


class _Replies:
    """The outcomes of the statements that were sent, in their order: rows, or an exception."""

    def __init__(self, pgconn: PGconn, loaders: abc.Transformer, count: int, done: asyncio.Future[None]) -> None:
        self._pgconn = pgconn
        self._loaders = loaders
        self._count = count
        self._done = done
        self._current: list[tuple[Any, ...]] | psycopg.Error = []
        self.outcomes: list[list[tuple[Any, ...]] | psycopg.Error] = []

    def read(self) -> None:
        """Read what the server has sent so far. Called when the socket is readable."""
        try:
            self._pgconn.consume_input()
            while not (self._done.done() or self._pgconn.is_busy()):
                result = self._pgconn.get_result()
                if result is not None:
                    self._add(result)
                elif self._pgconn.status != ConnStatus.OK:
                    raise psycopg.OperationalError("the connection was lost")
        except psycopg.Error as error:
            self.outcomes += [error] * (self._count - len(self.outcomes))
        if len(self.outcomes) == self._count and not self._done.done():
            self._done.set_result(None)

    def write(self) -> None:
        """Send what the socket did not take before. Called when the socket is writable."""
        try:
            if self._pgconn.flush() == 0:
                asyncio.get_running_loop().remove_writer(self._pgconn.socket)
        except psycopg.Error:  # ``read`` raises the same, and makes it the outcome
            asyncio.get_running_loop().remove_writer(self._pgconn.socket)

    def _add(self, result: PGresult) -> None:
        status = result.status
        if status == ExecStatus.PIPELINE_SYNC:  # the end of a statement's transaction
            self.outcomes.append(self._current)
            self._current = []
            if len(self.outcomes) == self._count:
                self._done.set_result(None)
        elif isinstance(self._current, psycopg.Error):  # the rest of a statement that failed
            return
        elif status in _FAILED:
            self._current = error_from_result(result)
        elif status == ExecStatus.TUPLES_OK:
            self._loaders.set_pgresult(result)
            self._current = self._loaders.load_rows(0, result.ntuples, tuple)


class PostgresConnection:
    """A connection that psycopg has opened, which is used by one group of statements at a time."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self._pgconn = connection.pgconn
        self._loaders = Transformer(connection)
        self._names: dict[str, bytes] = {}  # of the statements that are prepared
        self._pgconn.enter_pipeline_mode()

    async def exchange(self, statements: Sequence[Statement]) -> list[Any]:
        """See ``GroupConnection.exchange``; a result is a list of rows.

        A group of which a statement could not be prepared ends the connection, for what is prepared on it is not known. So
        does one that finds a statement no longer prepared, or prepared for tables that have changed.
        """
        loop, socket = asyncio.get_running_loop(), self._pgconn.socket
        done: asyncio.Future[None] = loop.create_future()
        prepared = len(self._names)
        self._send(statements)
        replies = _Replies(self._pgconn, self._loaders, len(statements), done)
        loop.add_reader(socket, replies.read)
        if self._pgconn.flush():
            loop.add_writer(socket, replies.write)
        try:
            await done
        finally:
            loop.remove_reader(socket)
            loop.remove_writer(socket)
        errors = [outcome for outcome in replies.outcomes if isinstance(outcome, psycopg.Error)]
        if errors and (prepared < len(self._names) or any(error.sqlstate in OUTDATED for error in errors)):
            self._pgconn.finish()
        return replies.outcomes

    def _send(self, statements: Sequence[Statement]) -> None:
        for statement in statements:
            name = self._names.get(statement.query)
            if name is None:
                name = self._names[statement.query] = b"modeltoll_%d" % len(self._names)
                self._pgconn.send_prepare(name, _numbered(statement.query).encode())
            self._pgconn.send_query_prepared(name, statement.values, statement.formats, _BINARY)
            self._pgconn.pipeline_sync()

    async def is_usable(self) -> bool:
        """See ``GroupConnection.is_usable``. A readable idle connection was closed by the server."""
        if self._pgconn.status != ConnStatus.OK:
            return False
        poll = select.poll()
        poll.register(self._pgconn.socket, select.POLLIN)
        return not poll.poll(0)

    async def close(self) -> None:
        """See ``GroupConnection.close``."""
        await self._connection.close()
