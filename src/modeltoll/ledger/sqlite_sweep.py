"""Deletion of what is old in a SQLite ledger: a job, which runs inside a transaction and takes a bounded time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modeltoll.ledger.account_math import SKETCH_SIZE
from modeltoll.ledger.retention import MAX_ACCOUNTS_AT_ONCE, MAX_LINES_AT_ONCE, MAX_SLOTS_AT_ONCE

if TYPE_CHECKING:
    import sqlite3

    from modeltoll.ledger.retention import Sweep

__all__ = ["delete_account", "sweep"]

_LINES = (
    "DELETE FROM log WHERE line < (SELECT coalesce(min(line) FILTER (WHERE at >= ?), max(line))"  # noqa: S608  a constant number
    f" FROM (SELECT line, at FROM log ORDER BY line LIMIT {MAX_LINES_AT_ONCE}))"
)
_OLD_ACCOUNTS = "SELECT id, learned FROM accounts WHERE last_seen < ? ORDER BY last_seen LIMIT ?"
_DELETE_ACCOUNT = ("DELETE FROM sketch WHERE account = ?", "DELETE FROM accounts WHERE id = ?")


def _oldest(table: str, key: str, age: str) -> str:
    """The statement that deletes the oldest lines of a table; all names are constants."""
    old = f"SELECT {key} FROM {table} WHERE {age} < ? ORDER BY {age} LIMIT {MAX_LINES_AT_ONCE}"  # noqa: S608
    return f"DELETE FROM {table} WHERE {key} IN ({old})"  # noqa: S608


_STANDINGS = _oldest("standings", "caller", "drained")
_RECEIPTS = _oldest("receipts", "key", "expires")
_DAYS = _oldest("days", "caller", "day")


def sweep(due: Sweep, connection: sqlite3.Connection) -> bool:
    """Delete what is too old; returns whether there may be more of it."""
    deleted = [
        connection.execute(statement, (before,)).rowcount
        for statement, before in (
            (_STANDINGS, due.untouched_since),
            (_RECEIPTS, due.expired_before),
            (_DAYS, due.days_before),
        )
    ]
    if due.lines_before is not None:
        deleted.append(connection.execute(_LINES, (due.lines_before,)).rowcount + 1)  # the first that is kept
    more_accounts = _sweep_accounts(due.untouched_since, connection)
    return more_accounts or max(deleted) >= MAX_LINES_AT_ONCE


def delete_account(number: int, connection: sqlite3.Connection) -> None:
    """Delete an account, by its number, and its sketch."""
    for statement in _DELETE_ACCOUNT:
        connection.execute(statement, (number,))


def _sweep_accounts(before: float, connection: sqlite3.Connection) -> bool:
    old = connection.execute(_OLD_ACCOUNTS, (before, MAX_ACCOUNTS_AT_ONCE)).fetchall()
    slots = 0
    for number, learned in old:
        if slots > MAX_SLOTS_AT_ONCE:
            return True
        delete_account(number, connection)
        slots += min(learned, SKETCH_SIZE)
    return len(old) == MAX_ACCOUNTS_AT_ONCE
