"""Accounts and their sketches in a SQLite ledger: jobs, each of which runs inside a transaction."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from modeltoll.evidence_records import EvidenceState
from modeltoll.ledger import account_math
from modeltoll.ledger.counts_codec import (
    pack_blocks,
    pack_counts,
    pack_finished,
    unpack_blocks,
    unpack_counts,
    unpack_finished,
)
from modeltoll.ledger.row_codec import decode_account, json_text, signed_fingerprint
from modeltoll.ledger.sqlite_sweep import delete_account
from modeltoll.records import FINGERPRINT_BYTES, GROUP_SCHEMES, Caller

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Container, Iterable, Sequence

    from modeltoll.evidence_records import EvidenceUpdate
    from modeltoll.records import Account, Charge

__all__ = ["bill", "charge", "largest", "read", "reset"]

_ACCOUNT = (
    "SELECT id, learned, caller, model, rows, requests, work, tariff, first_seen, last_seen, leaks, cells, counts, blocks,"
    " finished, since, finished_log, log_evidence, carried_log FROM accounts"
)
_FIND = f"{_ACCOUNT} WHERE caller = ? AND model = ?"
_CALLERS = " AND ".join(f"caller NOT GLOB '{scheme}*'" for scheme in GROUP_SCHEMES)
_LARGEST = f"{_ACCOUNT} WHERE {_CALLERS} ORDER BY work DESC, caller, model LIMIT ?"
_CHANGED = (  # by a charge
    "learned",
    "rows",
    "requests",
    "tariff",
    "last_seen",
    "leaks",
    "cells",
    "counts",
    "blocks",
    "finished",
    "since",
    "finished_log",
    "log_evidence",
    "carried_log",
)
_NEW = (*_CHANGED, "caller", "model", "work", "first_seen")
_ADD = f"INSERT INTO accounts ({', '.join(_NEW)}) VALUES ({', '.join('?' * len(_NEW))})"  # noqa: S608  constant names
_CHANGE = f"UPDATE accounts SET {', '.join(f'{name} = ?' for name in _CHANGED)} WHERE id = ?"  # noqa: S608  constant names
_FIND_WITH_ONE = _FIND.replace(
    " FROM accounts",
    ", EXISTS (SELECT 1 FROM sketch WHERE account = accounts.id AND fingerprint = ?) FROM accounts",
)
_SEEN = "SELECT fingerprint FROM sketch WHERE account = ? AND fingerprint IN (SELECT value FROM json_each(?))"
_LEARN = "INSERT OR REPLACE INTO sketch (account, slot, fingerprint) VALUES (?, ?, ?)"
_WORK = "UPDATE accounts SET work = work + ? WHERE caller = ? AND model = ?"
_WORK_AND_UPDATE = (
    "UPDATE accounts SET work = work + ?, log_evidence = CASE tariff WHEN ? THEN ? ELSE log_evidence END"
    " WHERE caller = ? AND model = ?"
)
_UPDATE = "UPDATE accounts SET log_evidence = ? WHERE caller = ? AND model = ? AND tariff = ?"
_FOLD = "UPDATE accounts SET log_evidence = ?, finished_log = ?, finished = ? WHERE id = ?"


def read(caller: Caller, model: str, connection: sqlite3.Connection) -> list[Account | None]:
    """The stored accounts of the caller and of its groups."""
    found = [
        (connection.execute(_FIND, (owner.name, model)).fetchone(), owner)
        for owner in account_math.affected_accounts(caller)
    ]
    return [None if row is None else _decode_account(row, owner) for row, owner in found]


def charge(caller: Caller, charge: Charge, period: float, connection: sqlite3.Connection) -> Account:
    """``account_math.charge`` for the caller and its groups; ``period`` is in seconds."""
    own, *groups = [_charge_one(owner, charge, period, connection) for owner in account_math.affected_accounts(caller)]
    return account_math.with_groups(own, groups)


def _charge_one(caller: Caller, charge: Charge, period: float, connection: sqlite3.Connection) -> Account:
    found, seen = _find_with_seen(caller, charge, connection)
    number, learned = (None, 0) if found is None else found[:2]
    before = None if found is None else _decode_account(found, caller)

    after, fresh = account_math.charge(before, caller, charge, seen, period)
    values = (
        learned + len(fresh),
        after.rows,
        after.requests,
        after.tariff,
        after.last_seen,
        _pack(after.leaks),
        after.evidence.cells,
        pack_counts(after.evidence.counts),
        pack_blocks(after.evidence.numbers, after.evidence.blocks),
        pack_finished(after.evidence.finished),
        after.evidence.since,
        after.evidence.finished_log,
        after.evidence.log_evidence,
        after.evidence.carried_log,
    )
    if number is None:
        new = (caller.name, charge.model, after.work, after.first_seen)
        number = connection.execute(_ADD, values + new).lastrowid
    else:
        connection.execute(_CHANGE, (*values, number))
    ring = account_math.sketch_slots(learned, fresh)
    connection.executemany(_LEARN, [(number, slot, signed_fingerprint(fingerprint)) for slot, fingerprint in ring])
    return after


def _find_with_seen(
    caller: Caller, charge: Charge, connection: sqlite3.Connection
) -> tuple[tuple[Any, ...] | None, Container[bytes]]:
    """The stored account, None if there is none, and those of the charge's fingerprints that are in its sketch."""
    names = caller.name, charge.model
    numbers = [signed_fingerprint(fingerprint) for fingerprint in charge.fingerprints]
    if len(numbers) == 1:  # the common case, which one statement answers
        found = connection.execute(_FIND_WITH_ONE, (*numbers, *names)).fetchone()
        return found, charge.fingerprints if found is not None and found[-1] else ()
    found = connection.execute(_FIND, names).fetchone()
    if found is None:
        return None, ()
    seen = connection.execute(_SEEN, (found[0], json_text(numbers)))
    return found, {_fingerprint(row[0]) for row in seen}


def bill(
    caller: Caller, model: str, seconds: float, updates: Sequence[EvidenceUpdate], connection: sqlite3.Connection
) -> None:
    """Add issued work to an account, if it exists, and update the evidence of it and of the caller's groups."""
    if len(updates) == 1 and updates[0].account == caller.name and not updates[0].folded:  # the common case
        (own,) = updates
        log_evidence = float(own.log_evidence)
        connection.execute(_WORK_AND_UPDATE, (seconds, own.tariff, log_evidence, caller.name, model))
        return
    connection.execute(_WORK, (seconds, caller.name, model))
    for update in updates:
        _update(update, model, connection)


def _update(change: EvidenceUpdate, model: str, connection: sqlite3.Connection) -> None:
    """``account_math.updated`` for an account, if it exists."""
    if not change.folded:
        connection.execute(_UPDATE, (float(change.log_evidence), change.account, model, change.tariff))
        return
    found = connection.execute(_FIND, (change.account, model)).fetchone()
    if found is None or (before := _decode_account(found, Caller(change.account))).tariff != change.tariff:
        return
    after = account_math.updated(before, change).evidence
    connection.execute(
        _FOLD, (float(after.log_evidence), float(after.finished_log), pack_finished(after.finished), found[0])
    )


def largest(limit: int, connection: sqlite3.Connection) -> list[Account]:
    """The accounts of callers with the most work issued."""
    return [_decode_account(row, Caller(row[2])) for row in connection.execute(_LARGEST, (limit,)).fetchall()]


def reset(caller: Caller, model: str, connection: sqlite3.Connection) -> bool:
    """Delete an account and its sketch; returns whether it existed."""
    found = connection.execute(_FIND, (caller.name, model)).fetchone()
    if found is None:
        return False
    delete_account(found[0], connection)
    return True


def _decode_account(found: tuple[Any, ...], caller: Caller) -> Account:
    leaks, cells, counts, blocks, finished, since, finished_log, log_evidence, carried_log = found[10:19]
    numbers, current = unpack_blocks(blocks, cells)
    evidence = EvidenceState(
        counts=unpack_counts(counts),
        blocks=current,
        numbers=numbers,
        finished=unpack_finished(finished, cells),
        since=since,
        finished_log=finished_log,
        log_evidence=log_evidence,
        carried_log=carried_log,
    )
    return decode_account(caller, found[3:10], _unpack(leaks), evidence)


def _pack(values: Iterable[float]) -> bytes:
    doubles = tuple(values)
    return struct.pack(f"<{len(doubles)}d", *doubles)


def _unpack(blob: bytes) -> tuple[float, ...]:
    return struct.unpack(f"<{len(blob) // 8}d", blob)


def _fingerprint(number: int) -> bytes:
    return number.to_bytes(FINGERPRINT_BYTES, "big", signed=True)
