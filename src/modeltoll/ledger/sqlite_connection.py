"""Asynchronous transactions on one SQLite file.

A job is a whole step of the ledger, of several statements. A short job runs directly in the event loop's thread: with
the write-ahead log it writes to memory that the system flushes later, and a switch to another thread and back would
double its time (benchmarks/bench_ledger.py measures both; aiosqlite pays it once per statement). One dedicated thread
runs what takes longer: large jobs, jobs that find another process writing, and checkpoints of the write-ahead log. The
connection is used by one of the two threads at a time. Jobs that arrive meanwhile share the next transaction. Reads of
many rows have their own connection and delay no job.

Transactions begin with the write lock (BEGIN IMMEDIATE), so that no process can change what a job has read before it
writes. With ``synchronous = NORMAL`` a killed process loses nothing that was acknowledged. A power cut may lose the
steps since the last checkpoint (about ``WAL_BYTES`` of the log) but does not damage the file. Losing a few charges is
acceptable; synchronous writes would make every request wait for milliseconds.
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
WAL_BYTES = 8 * 2**20  # size of the write-ahead log above which it is checkpointed
CHECKPOINT_PATIENCE_MS = 100  # to wait for a reader; a checkpoint can be retried later


class SqliteConnection:
    """A ledger's file. ``patience``: seconds to wait for other processes.

    ``mounts``: file that lists the mounted file systems. Without ``create`` the file must be a ledger already.
    """

    def __init__(
        self,
        path: Path,
        *,
        patience: float = PATIENCE,
        mounts: Path = Path("/proc/self/mounts"),
        create: bool = True,
    ) -> None:
        self._path = path.absolute()
        target = Path(os.path.realpath(path))  # SQLite resolves links for the file and the files beside it
        self._wal = target.with_name(target.name + "-wal")
        self._patience = patience
        self._opener = SqliteOpener(self._path, target, patience, mounts, create)
        self._checkpoint_above = WAL_BYTES
        self._connection: sqlite3.Connection | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._queue: _Group = []
        self._busy = False

    async def open(self) -> None:
        """Open, check and migrate the file.

        Raises:
            LedgerError: the file is on a network file system, cannot be written, is no ledger, or of a newer version.
        """
        if self._thread is not None:
            return
        self._opener.check_path()
        thread = ThreadPoolExecutor(1, "modeltoll-ledger")
        try:
            self._connection = await asyncio.wrap_future(thread.submit(self._opener.open))
        except sqlite3.Error as error:
            raise self._ledger_error(error) from error
        finally:
            if self._connection is None:
                thread.shutdown(wait=False)
        self._thread = thread

    async def close(self) -> None:
        """Finish the jobs in the queue, then close the file."""
        thread, connection = self._thread, self._connection
        if thread is None or connection is None:
            return
        if self._queue:
            self._submit()
        self._thread = None
        await asyncio.wrap_future(thread.submit(connection.close))
        thread.shutdown()
        self._connection = None

    async def transact(self, job: Callable[[sqlite3.Connection], T], *, large: bool = False) -> T:
        """Run a job in a transaction and return its result once it is committed; ``large`` runs it in the thread.

        A job must not raise for errors that can be checked before: the jobs that share its transaction would fail too.

        Raises:
            LedgerError: the file is not open, or the transaction failed.
        """
        if self._thread is None:
            raise LedgerError("the ledger is not open")
        if not (self._busy or large):
            try:
                (result,) = self._run_transaction([job])
            except sqlite3.Error as error:
                if not is_busy(error):
                    raise self._ledger_error(error) from error
            else:
                if self._wal_is_large():
                    self._submit()
                return cast("T", result)
        waiting: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._queue.append((job, waiting))
        if not self._busy:
            self._submit()
        return await waiting

    async def read(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """Run a job that only reads, in another thread and on its own connection, so that it delays no other job.

        It sees every transaction that was committed before.

        Raises:
            LedgerError: the file is not open, or cannot be read.
        """
        if self._thread is None:
            raise LedgerError("the ledger is not open")
        try:
            return await asyncio.to_thread(self._read_separately, job)
        except sqlite3.Error as error:
            raise self._ledger_error(error) from error

    def _submit(self) -> None:
        """Run all jobs of the queue in the thread, which uses the connection until it is done."""
        assert self._thread is not None  # transact() refuses jobs otherwise
        group, self._queue = self._queue, []
        self._busy = True
        loop = asyncio.get_running_loop()
        outcome = self._thread.submit(self._run_patiently, [job for job, _ in group])
        outcome.add_done_callback(lambda outcome: loop.call_soon_threadsafe(self._deliver, group, outcome))

    def _deliver(self, group: _Group, outcome: Future[list[Any]]) -> None:
        """In the event loop: submit the next group of jobs, then resolve the futures of this one."""
        self._busy = False
        if self._queue:
            self._submit()
        error = outcome.exception()
        for index, (_, waiting) in enumerate(group):
            if waiting.done():  # cancelled
                continue
            if error is None:
                waiting.set_result(outcome.result()[index])
            else:
                waiting.set_exception(self._ledger_error(error) if isinstance(error, sqlite3.Error) else error)

    def _run_transaction(self, jobs: list[Callable[[sqlite3.Connection], Any]]) -> list[Any]:
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

    def _wal_is_large(self) -> bool:
        try:
            return self._wal.stat().st_size > self._checkpoint_above
        except FileNotFoundError:  # SQLite would go on writing into the deleted file
            raise LedgerError(
                "the ledger's file was removed while in use; restart the gateway", private=str(self._path)
            ) from None

    # The following methods run in a thread.

    def _read_separately(self, job: Callable[[sqlite3.Connection], T]) -> T:
        address = f"{self._path.as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(address, uri=True, timeout=self._patience)) as connection:
            return job(connection)

    def _run_patiently(self, jobs: list[Callable[[sqlite3.Connection], Any]]) -> list[Any]:
        """``_run_transaction`` that waits for other processes, then a checkpoint if the write-ahead log is large."""
        connection = self._connection
        assert connection is not None
        connection.execute(f"PRAGMA busy_timeout = {round(1000 * self._patience)}")
        try:
            results = self._run_transaction(jobs)
        finally:
            connection.execute("PRAGMA busy_timeout = 0")
        if self._wal_is_large():
            self._checkpoint(connection)
        return results

    def _checkpoint(self, connection: sqlite3.Connection) -> None:
        """Copy the write-ahead log into the file and empty it.

        SQLite's automatic checkpoints run concurrently with commits of other processes, which before SQLite 3.51.3 can
        lose pages (sqlite.org/wal.html#walresetbug). They are disabled; a TRUNCATE checkpoint holds the write lock
        throughout.
        """
        connection.execute(f"PRAGMA busy_timeout = {CHECKPOINT_PATIENCE_MS}")
        with contextlib.suppress(sqlite3.Error):  # it is retried later; on a full disk the next charge fails
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        connection.execute("PRAGMA busy_timeout = 0")
        self._checkpoint_above = WAL_BYTES + self._wal.stat().st_size  # more if a reader blocks it

    def _ledger_error(self, error: sqlite3.Error) -> LedgerError:
        public = MESSAGES.get(primary_code(error), "the ledger does not answer")
        return LedgerError(public, private=f"{self._path}: {getattr(error, 'sqlite_errorname', 'sqlite3')}: {error}")
