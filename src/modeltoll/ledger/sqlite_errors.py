"""What SQLite's errors mean to an operator."""

from __future__ import annotations

import sqlite3

__all__ = ["MESSAGES", "NO_LEDGER", "is_busy", "primary_code"]

NO_LEDGER = "there is no ledger in a file of that name; see whether the path is right"

# What is said aloud, by SQLite's primary result code. No path in it: callers may read it.
MESSAGES = {
    sqlite3.SQLITE_NOTADB: "the ledger's file is not a SQLite database; give the ledger another file",
    sqlite3.SQLITE_CORRUPT: "the ledger's file is damaged; restore it from a copy or give the ledger another file",
    sqlite3.SQLITE_READONLY: "the ledger's file cannot be written; let the gateway's user write it and its folder",
    sqlite3.SQLITE_CANTOPEN: "the ledger's file cannot be opened; its folder must exist and be writable",
    sqlite3.SQLITE_PERM: "the ledger's file cannot be opened; let the gateway's user write it and its folder",
    sqlite3.SQLITE_FULL: "the ledger's disk is full; make room",
    sqlite3.SQLITE_IOERR: "the ledger's disk cannot be read or written; see whether it is full or broken",
    sqlite3.SQLITE_BUSY: "another process holds the ledger for too long",
    sqlite3.SQLITE_LOCKED: "another process holds the ledger for too long",
}


def is_busy(error: sqlite3.Error) -> bool:
    return primary_code(error) == sqlite3.SQLITE_BUSY


def primary_code(error: sqlite3.Error) -> int:
    """SQLite's result code without its details, 0 where the ``sqlite3`` module itself complains."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
