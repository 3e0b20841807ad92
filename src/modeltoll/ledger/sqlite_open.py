"""The way into a SQLite file: whose it is and where it lies is looked at before anything is written into it."""

from __future__ import annotations

import sqlite3
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

PAGE_BYTES = 2048  # a charge touches a few places, and the log takes whole pages
ATTEMPTS = 10  # at switching the journal, each after waiting for another process
APPLICATION_ID = 0x4D544F4C
MIGRATIONS = (
    "sqlite_1.sql",
    "sqlite_2.sql",
)  # file n brings version n to n + 1; the file's version is PRAGMA user_version


@dataclass(frozen=True, slots=True)
class SqliteOpener:
    """``path`` as it was given, ``target`` what it links to; ``patience`` in seconds; ``mounts`` the system's list of
    mounted file systems. Without ``make`` the file must be there already.
    """

    path: Path
    target: Path
    patience: float
    mounts: Path
    make: bool

    def look(self) -> None:
        """Refuse a file that is not there, unless it may be made, or lies on a network file system.

        Raises:
            LedgerError: so it is.
        """
        if not (self.make or self.target.exists()):
            raise LedgerError(NO_LEDGER, private=str(self.path))
        if not self.mounts.exists():  # only Linux lists them there
            return
        kind = filesystem_of(self.target, self.mounts.read_text("utf-8", "surrogateescape"))
        if is_network_filesystem(kind):
            raise LedgerError(
                f"a SQLite ledger cannot lie on a network file system ({kind}): machines would not see each other's "
                "charges; put it on a local disk, or use a ledger server for several machines",
                private=str(self.path),
            )

    def open(self) -> sqlite3.Connection:
        """A connection to the file, which is a ledger of the latest version by then; it waits for nobody.

        Raises:
            LedgerError: the file is no ledger, or a newer version's.
            sqlite3.Error: it cannot be opened or written.
        """
        connection = sqlite3.connect(self.path, timeout=self.patience, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("BEGIN")  # one look: another gateway may be making the ledger at this moment
            self._version(connection)  # before anything is written into what may be a stranger's file
            connection.execute("ROLLBACK")
            connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")  # counts for a new file only
            self._write_ahead(connection)
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA wal_autocheckpoint = 0")
            self._migrate(connection)
            connection.execute("PRAGMA busy_timeout = 0")
        except BaseException:
            connection.close()
            raise
        return connection

    def _version(self, connection: sqlite3.Connection) -> int:
        """The version of the ledger in the file, 0 where it is empty, and a ledger may be made in it."""
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
                f"the ledger's file has version {version} and this Modeltoll knows none above {len(MIGRATIONS)}; "
                "upgrade Modeltoll or give the ledger another file",
                private=str(self.path),
            )
        if not (version or self.make):
            raise LedgerError(NO_LEDGER, private=str(self.path))
        return int(version)

    def _write_ahead(self, connection: sqlite3.Connection) -> None:
        """Switch the journal. SQLite does not wait where another process is switching at the same time: we do."""
        for _ in range(ATTEMPTS):
            try:
                connection.execute("PRAGMA journal_mode = WAL").fetchall()
            except sqlite3.OperationalError as error:
                if not is_busy(error):
                    raise
                connection.execute("BEGIN IMMEDIATE")  # this waits until the other one has done
                connection.execute("ROLLBACK")
            else:
                return
        raise LedgerError(MESSAGES[sqlite3.SQLITE_BUSY], private=str(self.path))

    def _migrate(self, connection: sqlite3.Connection) -> None:
        """Bring the file to the latest version, in one transaction; of many gateways that start at once, one does."""
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
    """The statements of a script, each complete; ``executescript`` would commit the transaction it runs in."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
