"""Asynchronous transactions on one SQLite file.

A job is a whole step of the ledger, of several statements. The jobs of one turn of the event loop share a transaction. If one
of them fails, the transaction is rolled back and each runs in its own, so that no job fails for another one's error.

Short jobs run directly in the event loop's thread: with the write-ahead log they write to memory that the system flushes
later, and a switch to another thread and back would double their time (benchmarks/bench_ledger.py measures both;
aiosqlite pays it once per statement). One dedicated thread runs what takes longer: large jobs, jobs that find another
process writing, and checkpoints of the write-ahead log. The connection is used by one of the two threads at a time. Jobs
that arrive meanwhile share the next transaction. Reads of many rows have their own connection and delay no job.

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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from modeltoll.errors import LedgerError
from modeltoll.ledger.sqlite_errors import MESSAGES, is_busy, primary_code
from modeltoll.ledger.sqlite_open import SqliteOpener

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

__all__ = ["PATIENCE", "SqliteConnection"]

T = TypeVar("T")

PATIENCE = 5.0  # seconds to wait for another process's transaction
WAL_BYTES = 8 * 2**20  # size of the write-ahead log above which it is checkpointed
CHECKPOINT_PATIENCE_MS = 100  # to wait for a reader; a checkpoint can be retried later


@dataclass(frozen=True, slots=True, eq=False)
class _Step:
    """A job that waits for its transaction, and the future of its result. ``large``: it runs in the thread."""

    job: Callable[[sqlite3.Connection], Any]
    result: asyncio.Future[Any]
    large: bool


@dataclass(frozen=True, slots=True)
class _Outcome:
    """The result of a job whose transaction is committed, or why it is not."""

    result: Any
    error: BaseException | None = None

    @property
    def found_busy(self) -> bool:
        return isinstance(self.error, sqlite3.Error) and is_busy(self.error)


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
        self._wal = str(target.with_name(target.name + "-wal"))
        self._patience = patience
        self._opener = SqliteOpener(self._path, target, patience, mounts, create)
        self._checkpoint_above = WAL_BYTES
        self._connection: sqlite3.Connection | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._loop: asyncio.AbstractEventLoop | None = None  # in which the jobs of the queue wait
        self._queue: list[_Step] = []
        self._due = False  # the queue's transaction is to run at the end of this turn of the event loop
        self._busy = False  # the thread uses the connection

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
        self._thread, self._loop, self._due = thread, asyncio.get_running_loop(), False

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

        The job may run again if it fails, or another of its transaction does; it must change nothing but the file.

        Raises:
            LedgerError: the file is not open, or the transaction failed.
        """
        if self._thread is None:
            raise LedgerError("the ledger is not open")
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._leave_loop(loop)
        step = _Step(job, loop.create_future(), large)
        self._queue.append(step)
        if not (self._busy or self._due):
            self._due = True
            loop.call_soon(self._run_turn)
        result: T = await step.result
        return result

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

    def _leave_loop(self, new: asyncio.AbstractEventLoop) -> None:
        """Forget the jobs of an event loop that ended before the file was closed; one may still run in the thread."""
        self._loop, self._queue, self._due = new, [], False
        if self._busy:
            self._submit()

    def _run_turn(self) -> None:
        """Run the jobs of the queue: here, or in the thread if one is large, or if another process is writing."""
        self._due = False
        if self._busy or not self._queue:  # they were submitted meanwhile, or will be
            return
        if any(step.large for step in self._queue):
            self._submit()
            return
        steps, self._queue = self._queue, []
        try:
            outcomes = self._run_jobs([step.job for step in steps])
            wal_is_large = self._wal_is_large()
        except LedgerError as error:
            outcomes, wal_is_large = [_Outcome(None, error)] * len(steps), False
        self._queue = [step for step, outcome in zip(steps, outcomes, strict=True) if outcome.found_busy]
        if self._queue or wal_is_large:
            self._submit()
        for step, outcome in zip(steps, outcomes, strict=True):
            if not outcome.found_busy:
                self._deliver(step, outcome)

    def _submit(self) -> None:
        """Run all jobs of the queue in the thread, which uses the connection until it is done."""
        assert self._thread is not None  # transact() refuses jobs otherwise
        steps, self._queue = self._queue, []
        self._busy = True
        loop = asyncio.get_running_loop()
        outcome = self._thread.submit(self._run_patiently, [step.job for step in steps])
        outcome.add_done_callback(lambda outcome: loop.call_soon_threadsafe(self._deliver_all, steps, outcome))

    def _deliver_all(self, steps: list[_Step], outcome: Future[list[_Outcome]]) -> None:
        """In the event loop: submit the jobs that came meanwhile, then deliver the outcomes of these."""
        self._busy = False
        if self._queue:
            self._submit()
        error = outcome.exception()
        outcomes = outcome.result() if error is None else [_Outcome(None, error)] * len(steps)
        for step, each in zip(steps, outcomes, strict=True):
            self._deliver(step, each)

    def _deliver(self, step: _Step, outcome: _Outcome) -> None:
        error = outcome.error
        if step.result.done():  # cancelled
            return
        if error is None:
            step.result.set_result(outcome.result)
        else:
            step.result.set_exception(self._ledger_error(error) if isinstance(error, sqlite3.Error) else error)

    def _run_jobs(self, jobs: Sequence[Callable[[sqlite3.Connection], Any]]) -> list[_Outcome]:
        """Run jobs in one transaction; if that fails, each in its own, unless another process is writing."""
        try:
            return [_Outcome(result) for result in self._run_transaction(jobs)]
        except Exception as error:  # noqa: BLE001  it is delivered to the job that failed
            failed = _Outcome(None, error)
        if len(jobs) == 1 or failed.found_busy:
            return [failed] * len(jobs)
        return [outcome for job in jobs for outcome in self._run_jobs([job])]

    def _run_transaction(self, jobs: Sequence[Callable[[sqlite3.Connection], Any]]) -> list[Any]:
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
            return os.stat(self._wal).st_size > self._checkpoint_above  # noqa: PTH116  half of the time of pathlib's
        except FileNotFoundError:  # SQLite would go on writing into the deleted file
            raise LedgerError(
                "the ledger's file was removed while in use; restart the gateway", private=str(self._path)
            ) from None
        except OSError as error:
            raise LedgerError("the ledger's file cannot be read", private=f"{self._path}: {error}") from error

    # The following methods run in a thread.

    def _read_separately(self, job: Callable[[sqlite3.Connection], T]) -> T:
        address = f"{self._path.as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(address, uri=True, timeout=self._patience)) as connection:
            return job(connection)

    def _run_patiently(self, jobs: Sequence[Callable[[sqlite3.Connection], Any]]) -> list[_Outcome]:
        """``_run_jobs`` that waits for other processes, then a checkpoint if the write-ahead log is large."""
        connection = self._connection
        assert connection is not None
        connection.execute(f"PRAGMA busy_timeout = {round(1000 * self._patience)}")
        try:
            outcomes = self._run_jobs(jobs)
        finally:
            connection.execute("PRAGMA busy_timeout = 0")
        if self._wal_is_large():
            self._checkpoint(connection)
        return outcomes

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
        self._checkpoint_above = WAL_BYTES + os.stat(self._wal).st_size  # noqa: PTH116  more if a reader blocks it

    def _ledger_error(self, error: sqlite3.Error) -> LedgerError:
        public = MESSAGES.get(primary_code(error), "the ledger does not answer")
        return LedgerError(public, private=f"{self._path}: {getattr(error, 'sqlite_errorname', 'sqlite3')}: {error}")
