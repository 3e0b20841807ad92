"""Standings and counted receipts in a SQLite ledger: jobs, each of which runs inside a transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modeltoll.ledger import settlement_math
from modeltoll.settlement_records import Standing

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from modeltoll.records import Caller
    from modeltoll.settlement_records import Adjustment, Admission, Receipt, Reservation

__all__ = ["adjust", "forget", "settle", "standing"]

_FIND = "SELECT unsettled, prepaid, new_account, settled_rows, drained FROM standings WHERE caller = ?"
_STORE = (
    "INSERT INTO standings (caller, unsettled, prepaid, new_account, settled_rows, drained) VALUES (?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (caller) DO UPDATE SET unsettled = excluded.unsettled, prepaid = excluded.prepaid,"
    " new_account = excluded.new_account, settled_rows = excluded.settled_rows, drained = excluded.drained"
)
_COUNT = "INSERT INTO receipts (key, expires) VALUES (?, ?) ON CONFLICT (key) DO NOTHING"
_FORGET = "DELETE FROM standings WHERE caller = ?"


def standing(caller: Caller, connection: sqlite3.Connection) -> Standing | None:
    """The stored standing, None if there is none."""
    found = connection.execute(_FIND, (caller.name,)).fetchone()
    return None if found is None else Standing(*found)


def settle(
    caller: Caller,
    receipts: Iterable[Receipt],
    reservation: Reservation | None,
    at: float,
    connection: sqlite3.Connection,
) -> Admission:
    """``settlement_math.settle`` for receipts that have not expired."""
    fresh = [receipt for receipt in receipts if _count(caller, receipt, connection)]
    before = standing(caller, connection)
    after, admission = settlement_math.settle(before, fresh, reservation, at)
    if after is not None and after != before:
        _store(caller, after, connection)
    return admission


def adjust(caller: Caller, adjustment: Adjustment, connection: sqlite3.Connection) -> None:
    """``settlement_math.adjust``."""
    _store(caller, settlement_math.adjust(standing(caller, connection), adjustment), connection)


def forget(caller: Caller, connection: sqlite3.Connection) -> None:
    """Delete a standing."""
    connection.execute(_FORGET, (caller.name,))


def _count(caller: Caller, receipt: Receipt, connection: sqlite3.Connection) -> bool:
    """Mark a receipt as counted; returns whether it was not."""
    key = settlement_math.receipt_key(caller, receipt.identity)
    return connection.execute(_COUNT, (key, float(receipt.expires))).rowcount > 0


def _store(caller: Caller, after: Standing, connection: sqlite3.Connection) -> None:
    seconds = map(float, (after.unsettled, after.prepaid, after.new_account))
    connection.execute(_STORE, (caller.name, *seconds, after.settled_rows, float(after.drained)))
