"""Messages for operators, by SQLite's error codes."""

from __future__ import annotations

import sqlite3

__all__ = ["MESSAGES", "NO_LEDGER", "is_busy", "primary_code"]

NO_LEDGER = "there is no ledger in a file of that name; check the path"

# Public messages by SQLite's primary result code. Callers may read them, so they contain no path.
MESSAGES = {
    sqlite3.SQLITE_NOTADB: "the ledger's file is not a SQLite database; give the ledger another file",
    sqlite3.SQLITE_CORRUPT: "the ledger's file is damaged; restore a backup or give the ledger another file",
    sqlite3.SQLITE_READONLY: "the ledger's file cannot be written; allow the gateway's user to write it and its folder",
    sqlite3.SQLITE_CANTOPEN: "the ledger's file cannot be opened; its folder must exist and be writable",
    sqlite3.SQLITE_PERM: "the ledger's file cannot be opened; allow the gateway's user to write it and its folder",
    sqlite3.SQLITE_FULL: "the ledger's disk is full; free some space",
    sqlite3.SQLITE_IOERR: "the ledger's disk cannot be read or written; check whether it is full or defective",
    sqlite3.SQLITE_BUSY: "another process locks the ledger for too long",
    sqlite3.SQLITE_LOCKED: "another process locks the ledger for too long",
}


def is_busy(error: sqlite3.Error) -> bool:
    return primary_code(error) == sqlite3.SQLITE_BUSY


def primary_code(error: sqlite3.Error) -> int:
    """SQLite's primary result code; 0 for errors of the ``sqlite3`` module itself."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
