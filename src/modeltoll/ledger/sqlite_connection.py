"""One SQLite file, changed in transactions that wait for nobody where they need not.

A job is a whole step of the ledger, several statements long. A short one runs at once in the event loop's own thread:
in write-ahead mode it only writes to memory that the system puts on the disk later, and a visit to another thread and
back costs about as much again (benchmarks/bench_ledger.py measures both; aiosqlite pays that once per statement).
What does take long goes to one thread of the file's own (the standard library's ``sqlite3`` serves both, never at the
same time): large jobs, a job that finds another process writing, and copying the log into the file. Jobs that arrive
meanwhile share the next transaction. Who only reads, and much, has a connection of his own and keeps nobody waiting.

Transactions begin with the write lock (BEGIN IMMEDIATE), so that what a job reads cannot change before it writes,
whichever process wants to. With ``synchronous = NORMAL`` a killed process loses nothing that was acknowledged; a
power cut may lose the steps since the log was last copied into the file (about ``WAL_BYTES`` of it) and never breaks
the file. A ledger can bear that: a lost charge is a charge less, while a synchronous disk would make every request
wait for milliseconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from modeltoll.errors import LedgerError
from modeltoll.ledger.sqlite_errors import MESSAGES, is_busy, primary_code
from modeltoll.ledger.sqlite_open import SqliteOpener

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PATIENCE", "SqliteConnection"]

T = TypeVar("T")
_Group = list[tuple["Callable[[sqlite3.Connection], Any]", "asyncio.Future[Any]"]]

PATIENCE = 5.0  # seconds to wait for another process's transaction
WAL_BYTES = 8 * 2**20  # size of the write-ahead log above which it is copied into the file
CHECKPOINT_PATIENCE_MS = 100  # to wait for a reader; the log can be copied another time


class SqliteConnection:
    """A ledger's file. ``patience`` is in seconds; ``mounts`` names the system's list of mounted file systems.

    Without ``make`` it must be there already.
    """

    def __init__(
        self,
        path: Path,
        *,
        patience: float = PATIENCE,
        mounts: Path = Path("/proc/self/mounts"),
        make: bool = True,
    ) -> None:
        self._path = path.absolute()
        target = Path(os.path.realpath(path))  # SQLite follows links, and so do the files beside it
        self._wal = target.with_name(target.name + "-wal")
        self._patience = patience
        self._door = SqliteOpener(self._path, target, patience, mounts, make)
        self._checkpoint_above = WAL_BYTES
        self._connection: sqlite3.Connection | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._queue: _Group = []
        self._busy = False

    async def open(self) -> None:
        """Open, check and migrate the file.

        Raises:
            LedgerError: it lies on a network file system, cannot be written, is no ledger, or a newer version's.
        """
        if self._thread is not None:
            return
        self._door.look()
        thread = ThreadPoolExecutor(1, "modeltoll-ledger")
        try:
            self._connection = await asyncio.wrap_future(thread.submit(self._door.open))
        except sqlite3.Error as error:
            raise self._fault(error) from error
        finally:
            if self._connection is None:
                thread.shutdown(wait=False)
        self._thread = thread

    async def close(self) -> None:
        """Finish what was asked for, then let go of the file."""
        thread, connection = self._thread, self._connection
        if thread is None or connection is None:
            return
        if self._queue:
            self._send()
        self._thread = None
        await asyncio.wrap_future(thread.submit(connection.close))
        thread.shutdown()
        self._connection = None

    async def do(self, job: Callable[[sqlite3.Connection], T], *, large: bool = False) -> T:
        """Run a job in a transaction and return its result once that is committed; a large one in the thread.

        A job must not raise for what can be checked beforehand: it would take with it those that share its
        transaction.

        Raises:
            LedgerError: the file is not open, or the transaction failed.
        """
        if self._thread is None:
            raise LedgerError("the ledger is not open")
        if not (self._busy or large):
            try:
                (result,) = self._transact([job])
            except sqlite3.Error as error:
                if not is_busy(error):
                    raise self._fault(error) from error
            else:
                if self._log_has_grown():
                    self._send()
                return cast("T", result)
        waiting: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._queue.append((job, waiting))
        if not self._busy:
            self._send()
        return await waiting

    async def look(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """Run a job that only reads, in a thread and on a connection of its own: nobody waits for it.

        It sees every transaction that was committed before, and none half.

        Raises:
            LedgerError: the file is not open, or cannot be read.
        """
        if self._thread is None:
            raise LedgerError("the ledger is not open")
        try:
            return await asyncio.to_thread(self._read_beside, job)
        except sqlite3.Error as error:
            raise self._fault(error) from error

    def _send(self) -> None:
        """Hand all waiting jobs to the thread, and the connection with them."""
        assert self._thread is not None  # do() takes no job otherwise
        group, self._queue = self._queue, []
        self._busy = True
        loop = asyncio.get_running_loop()
        outcome = self._thread.submit(self._work, [job for job, _ in group])
        outcome.add_done_callback(lambda outcome: loop.call_soon_threadsafe(self._deliver, group, outcome))

    def _deliver(self, group: _Group, outcome: Future[list[Any]]) -> None:
        """Back in the event loop: let the next group go, then tell this one."""
        self._busy = False
        if self._queue:
            self._send()
        error = outcome.exception()
        for turn, (_, waiting) in enumerate(group):
            if waiting.done():  # its caller has gone
                continue
            if error is None:
                waiting.set_result(outcome.result()[turn])
            else:
                waiting.set_exception(self._fault(error) if isinstance(error, sqlite3.Error) else error)

    def _transact(self, jobs: list[Callable[[sqlite3.Connection], Any]]) -> list[Any]:
        connection = self._connection
        assert connection is not None
        connection.execute("BEGIN IMMEDIATE")
        try:
            results = [job(connection) for job in jobs]
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        return results

    def _log_has_grown(self) -> bool:
        try:
            return self._wal.stat().st_size > self._checkpoint_above
        except FileNotFoundError:  # SQLite would go on writing into what nobody else can see
            raise LedgerError(
                "the ledger's file was removed while in use; restart the gateway", private=str(self._path)
            ) from None

    # What follows runs in a thread.

    def _read_beside(self, job: Callable[[sqlite3.Connection], T]) -> T:
        address = f"{self._path.as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(address, uri=True, timeout=self._patience)) as connection:
            return job(connection)

    def _work(self, jobs: list[Callable[[sqlite3.Connection], Any]]) -> list[Any]:
        """As ``_transact``, but patient with other processes; then copy the log into the file where it has grown."""
        connection = self._connection
        assert connection is not None
        connection.execute(f"PRAGMA busy_timeout = {round(1000 * self._patience)}")
        try:
            results = self._transact(jobs)
        finally:
            connection.execute("PRAGMA busy_timeout = 0")
        if self._log_has_grown():
            self._checkpoint(connection)
        return results

    def _checkpoint(self, connection: sqlite3.Connection) -> None:
        """Copy the write-ahead log into the file and empty it.

        SQLite's automatic checkpoints run beside other processes' commits, which before SQLite 3.51.3 can lose pages
        (sqlite.org/wal.html#walresetbug). They are off; a TRUNCATE checkpoint holds the write lock from start to end.
        """
        connection.execute(f"PRAGMA busy_timeout = {CHECKPOINT_PATIENCE_MS}")
        with contextlib.suppress(sqlite3.Error):  # it can be copied later; a full disk refuses the next charge aloud
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        connection.execute("PRAGMA busy_timeout = 0")
        self._checkpoint_above = WAL_BYTES + self._wal.stat().st_size  # more, where a reader holds on to the log

    def _fault(self, error: sqlite3.Error) -> LedgerError:
        public = MESSAGES.get(primary_code(error), "the ledger does not answer")
        return LedgerError(public, private=f"{self._path}: {getattr(error, 'sqlite_errorname', 'sqlite3')}: {error}")
