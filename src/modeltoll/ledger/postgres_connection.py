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
    from collections.abc import Sequence

    from psycopg import AsyncConnection, abc
    from psycopg.pq.abc import PGconn, PGresult

__all__ = ["PostgresConnection", "Statement"]

_BINARY, _TEXT = Format.BINARY, Format.TEXT
_FAILED = (ExecStatus.FATAL_ERROR, ExecStatus.BAD_RESPONSE)
_SYNC, _ROWS, _OK = ExecStatus.PIPELINE_SYNC, ExecStatus.TUPLES_OK, ConnStatus.OK
_AS_THEY_ARE = (bytes, type(None))  # types of values that are sent without a conversion


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
    def of(cls, query: str, values: Sequence[bytes | float | str | None]) -> Statement:
        """A statement of Python's values. Numbers and texts are sent as texts, whose types the query says, or PostgreSQL infers.

        Raises:
            ValueError: a text is not Unicode text, or has a NUL, which PostgreSQL cannot store.
        """
        if "\0" in "".join([value for value in values if isinstance(value, str)]):  # libpq would send what is before it
            raise ValueError("a charge or a log entry has a text that the ledger cannot store")
        data = [value if value.__class__ in _AS_THEY_ARE else str(value).encode() for value in values]
        return cls(query, data, [_BINARY if value.__class__ in _AS_THEY_ARE else _TEXT for value in values])


class _Replies:
    """The outcomes of the statements that were sent, in their order: rows, or an exception.

    ``done``: is resolved once all of them are there.
    """

    def __init__(self, loaders: abc.Transformer, count: int, done: asyncio.Future[None]) -> None:
        self._loaders = loaders
        self._count = count
        self._current: list[tuple[Any, ...]] | psycopg.Error = []
        self.done = done
        self.outcomes: list[list[tuple[Any, ...]] | psycopg.Error] = []

    def read(self, pgconn: PGconn) -> None:
        """Take what the server has sent so far.

        Raises:
            psycopg.Error: the connection was lost.
        """
        pgconn.consume_input()
        while len(self.outcomes) < self._count and not pgconn.is_busy():
            result = pgconn.get_result()
            if result is not None:
                self._add(result)
            elif pgconn.status != _OK:
                raise psycopg.OperationalError("the connection was lost")
        if len(self.outcomes) == self._count:
            self._end()

    def fail(self, error: psycopg.Error) -> None:
        """Make an error the outcome of all statements that have none."""
        self.outcomes += [error] * (self._count - len(self.outcomes))
        self._end()

    def _end(self) -> None:
        if not self.done.done():  # else it was cancelled
            self.done.set_result(None)

    def _add(self, result: PGresult) -> None:
        status = result.status
        if status == _SYNC:  # the end of a statement's transaction
            self.outcomes.append(self._current)
            self._current = []
        elif isinstance(self._current, psycopg.Error):  # the rest of a statement that failed
            return
        elif status in _FAILED:
            self._current = error_from_result(result)
        elif status == _ROWS:
            self._loaders.set_pgresult(result)
            self._current = self._loaders.load_rows(0, result.ntuples, tuple)


class PostgresConnection:
    """A connection that psycopg has opened, which is used by one group of statements at a time, in one event loop.

    The loop watches its socket from the first group until the connection ends.
    """

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self._pgconn = connection.pgconn
        self._socket = self._pgconn.socket
        self._unread = select.poll()
        self._unread.register(self._socket, select.POLLIN)
        self._loaders = Transformer(connection)
        self._names: dict[str, bytes] = {}  # of the statements that are prepared
        self._replies: _Replies | None = None  # of the group that uses the connection
        self._loop: asyncio.AbstractEventLoop | None = None  # which watches the socket
        self._pgconn.enter_pipeline_mode()

    async def exchange(self, statements: Sequence[Statement]) -> list[Any]:
        """See ``GroupConnection.exchange``; a result is a list of rows.

        A group of which a statement could not be prepared ends the connection, for what is prepared on it is not known. So
        does one that finds a statement no longer prepared, or prepared for tables that have changed.
        """
        loop, prepared = self._watch(), len(self._names)
        replies = self._replies = _Replies(self._loaders, len(statements), loop.create_future())
        try:
            self._send(statements)
            if self._pgconn.flush():
                loop.add_writer(self._socket, self._write)
            await replies.done
        finally:
            self._replies = None
        errors = [outcome for outcome in replies.outcomes if isinstance(outcome, psycopg.Error)]
        if errors and (prepared < len(self._names) or any(error.sqlstate in OUTDATED for error in errors)):
            self._finish()
        return replies.outcomes

    def _watch(self) -> asyncio.AbstractEventLoop:
        """Watch the socket; returns the event loop."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._loop.add_reader(self._socket, self._read)
        return self._loop

    def _forget(self) -> None:
        """Watch the socket no more. Done before it is closed: another one may have its number then."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
        self._loop = None

    def _finish(self) -> None:
        self._forget()
        self._pgconn.finish()

    def _read(self) -> None:
        """Called when the socket is readable."""
        if self._replies is None:  # an idle connection: ``is_usable`` says that it was closed by the server
            self._forget()
            return
        try:
            self._replies.read(self._pgconn)
        except psycopg.Error as error:
            self._forget()
            self._replies.fail(error)

    def _write(self) -> None:
        """Send what the socket did not take before. Called when the socket is writable."""
        try:
            unsent = self._pgconn.flush()
        except psycopg.Error:  # reading raises the same, and makes it the outcome
            unsent = 0
        if not unsent and self._loop is not None:
            self._loop.remove_writer(self._socket)

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
        return self._pgconn.status == _OK and not self._unread.poll(0)

    async def close(self) -> None:
        """See ``GroupConnection.close``."""
        self._forget()
        await self._connection.close()
