"""Open a SQLite file as a ledger: check its location and its owner before anything is written, then migrate it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

from modeltoll.errors import LedgerError
from modeltoll.ledger.filesystems import filesystem_of, is_network_filesystem
from modeltoll.ledger.sqlite_errors import MESSAGES, NO_LEDGER, is_busy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["MIGRATIONS", "SqliteOpener"]

PAGE_BYTES = 2048  # small, because a charge changes few rows and the write-ahead log stores whole pages
PRIVATE = 0o600  # mode of the files: they hold names of callers, and the salt from which keys are derived
ATTEMPTS = 10  # to switch the journal mode, each after waiting for another process
APPLICATION_ID = 0x4D544F4C
MIGRATIONS = (
    "sqlite_1.sql",
    "sqlite_2.sql",
    "sqlite_3.sql",
    "sqlite_4.sql",
    "sqlite_5.sql",
)  # file n brings version n to n + 1; the file's version is PRAGMA user_version


@dataclass(frozen=True, slots=True)
class SqliteOpener:
    """Opens ``path``, which links to ``target`` (or is it).

    ``patience``: seconds to wait for other processes. ``mounts``: file that lists the mounted file systems. Without
    ``create`` the file must be a ledger already.
    """

    path: Path
    target: Path
    patience: float
    mounts: Path
    create: bool

    def check_path(self) -> None:
        """Check that the file exists or may be created, and that it is not on a network file system.

        Raises:
            LedgerError: it does not exist, or is on a network file system.
        """
        if not (self.create or self.target.exists()):
            raise LedgerError(NO_LEDGER, private=str(self.path))
        if not self.mounts.exists():  # it exists on Linux only
            return
        kind = filesystem_of(self.target, self.mounts.read_text("utf-8", "surrogateescape"))
        if is_network_filesystem(kind):
            raise LedgerError(
                f"a SQLite ledger cannot be on a network file system ({kind}): machines would not see each other's "
                "charges; put it on a local disk, or use a ledger server for several machines",
                private=str(self.path),
            )

    def open(self) -> sqlite3.Connection:
        """Connect, and migrate the ledger to the latest version. The connection's busy timeout is 0.

        Raises:
            LedgerError: the file is no ledger, or of a newer version.
            sqlite3.Error: the file cannot be opened or written.
        """
        if self.create:
            self._create_privately()
        connection = sqlite3.connect(self.path, timeout=self.patience, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("BEGIN")  # a consistent view: another gateway may be creating the ledger now
            self._version(connection)  # before anything is written, for the file may be another program's
            connection.execute("ROLLBACK")
            connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")  # affects new files only
            self._enable_wal(connection)
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA wal_autocheckpoint = 0")
            self._migrate(connection)
            self._make_private()
            connection.execute("PRAGMA busy_timeout = 0")
        except BaseException:
            connection.close()
            raise
        return connection

    def _create_privately(self) -> None:
        """Create a missing file with mode 0600, whatever the umask. SQLite gives the files beside it the same mode."""
        with contextlib.suppress(OSError):  # it exists, or SQLite says why it cannot be made
            descriptor = os.open(self.target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, PRIVATE)
            try:
                if hasattr(os, "fchmod"):
                    os.fchmod(descriptor, PRIVATE)
            finally:
                os.close(descriptor)

    def _make_private(self) -> None:
        """Take the permissions of others away from an existing ledger and the files beside it, by mode 0600.

        A mode that allows a group and no others stays: an operator has chosen it.

        Raises:
            LedgerError: others may access the file, and this user may not change that.
        """
        if os.name != "posix":
            return
        for suffix in ("", "-wal", "-shm"):
            part = self.target.with_name(self.target.name + suffix)
            try:
                status = part.stat()
                if stat.S_ISREG(status.st_mode) and status.st_mode & stat.S_IRWXO:
                    part.chmod(PRIVATE)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise LedgerError(
                    "other users may access the ledger's file, and the gateway's user may not change that; "
                    "make the gateway's user its owner, or give it the mode 0600 or 0660",
                    private=f"{part}: {error}",
                ) from error

    def _version(self, connection: sqlite3.Connection) -> int:
        """The version of the ledger in the file; 0 if the file is empty and a ledger may be created in it.

        Raises:
            LedgerError: the file belongs to another program, has a newer version, or is empty and must not be.
        """
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (owner,) = connection.execute("PRAGMA application_id").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if owner != APPLICATION_ID and (owner or version or tables):
            raise LedgerError(
                "the ledger's file is the database of another program; give the ledger another file",
                private=str(self.path),
            )
        if version > len(MIGRATIONS):
            raise LedgerError(
                f"the ledger's file has version {version} but this Modeltoll reads versions up to {len(MIGRATIONS)}; "
                "upgrade Modeltoll or give the ledger another file",
                private=str(self.path),
            )
        if not (version or self.create):
            raise LedgerError(NO_LEDGER, private=str(self.path))
        return int(version)

    def _enable_wal(self, connection: sqlite3.Connection) -> None:
        """Switch to the write-ahead log. SQLite does not wait for another process that switches at the same time."""
        for _ in range(ATTEMPTS):
            try:
                connection.execute("PRAGMA journal_mode = WAL").fetchall()
            except sqlite3.OperationalError as error:
                if not is_busy(error):
                    raise
                connection.execute("BEGIN IMMEDIATE")  # waits for the other process
                connection.execute("ROLLBACK")
            else:
                return
        raise LedgerError(MESSAGES[sqlite3.SQLITE_BUSY], private=str(self.path))

    def _migrate(self, connection: sqlite3.Connection) -> None:
        """Migrate to the latest version in one transaction; of gateways that start at the same time, one does so."""
        connection.execute("BEGIN IMMEDIATE")
        try:
            for name in MIGRATIONS[self._version(connection) :]:
                for statement in _statements(resources.files(__package__).joinpath("sql", name).read_text("utf-8")):
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")


def _statements(script: str) -> Iterator[str]:
    """The statements of a script, one by one; ``executescript`` would commit the surrounding transaction."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
