"""Values of a ledger on a Valkey or Redis server, as the Lua scripts pack them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

import msgspec

from modeltoll.errors import LedgerError
from modeltoll.evidence_records import EvidenceState, FinishedBlock
from modeltoll.ledger.row_codec import LOG_COLUMNS, decode_account, decode_line
from modeltoll.records import Caller
from modeltoll.settlement_records import Standing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modeltoll.records import Account, LogEntry

__all__ = ["decode_stored_account", "decode_stored_line", "decode_stored_standing"]


class _StoredAccount(msgspec.Struct):
    """An account as stored on the server. ``finished_numbers``: of the blocks that wait, 0 for none.

    ``blocks`` and what follows are missing in accounts of earlier versions, whose counts mean something else.
    """

    caller: str
    model: str
    rows: int
    requests: int
    work: float
    tariff: str
    first_seen: float
    last_seen: float
    leaks: tuple[float, ...]
    counts: tuple[int | float, ...]
    blocks: tuple[tuple[int, ...], ...] = ()
    numbers: tuple[int, ...] = ()
    finished: tuple[tuple[int, ...], ...] = ()
    finished_numbers: tuple[int, ...] = ()
    since: float = 0.0
    finished_log: float = -math.inf
    log_evidence: float = 0.0
    carried_log: float | None = None


class _StoredStanding(msgspec.Struct):
    """A standing as stored on the server."""

    unsettled: float
    prepaid: float
    new_account: float
    settled_rows: int
    drained: float


_UNPACKER = msgspec.msgpack.Decoder(_StoredAccount)
_STANDING_UNPACKER = msgspec.msgpack.Decoder(_StoredStanding)


def decode_stored_account(caller: Caller | None, stored: bytes) -> Account:
    """The account; without ``caller`` it is named as it is stored. Raises ``LedgerError`` if it is damaged."""
    try:
        account: _StoredAccount = _UNPACKER.decode(stored)
    except msgspec.MsgspecError as error:
        raise LedgerError("the ledger holds an account that is damaged", private=str(error)) from error
    totals = (
        account.model,
        account.rows,
        account.requests,
        account.work,
        account.tariff,
        account.first_seen,
        account.last_seen,
    )
    return decode_account(caller or Caller(account.caller), totals, account.leaks, _evidence(account))


def _evidence(account: _StoredAccount) -> EvidenceState:
    if not account.blocks:
        return EvidenceState.new(0, account.last_seen)
    waiting = zip(account.finished_numbers, account.finished, strict=True)
    return EvidenceState(
        counts=tuple(map(int, account.counts)),
        blocks=account.blocks,
        numbers=account.numbers,
        finished=tuple([FinishedBlock(number, counts) if number else None for number, counts in waiting]),
        since=account.since,
        finished_log=account.finished_log,
        log_evidence=account.log_evidence,
        carried_log=account.carried_log,
    )


def decode_stored_standing(stored: bytes) -> Standing:
    """The standing. Raises ``LedgerError`` if it is damaged."""
    try:
        found: _StoredStanding = _STANDING_UNPACKER.decode(stored)
    except msgspec.MsgspecError as error:
        raise LedgerError("the ledger holds a standing that is damaged", private=str(error)) from error
    return Standing(*msgspec.structs.astuple(found))


def decode_stored_line(number: bytes, fields: Mapping[bytes, bytes]) -> tuple[int, str, LogEntry]:
    """(line number, hashed caller, entry) from an entry of the stream."""
    columns: dict[str, Any] = {"numbers": b"", "reason": ""}
    for name, value in fields.items():
        column = name.decode()
        kind = LOG_COLUMNS.get(column, str)
        columns[column] = value if kind is bytes else cast("type[float | str]", kind)(value.decode())
    return decode_line(int(number.partition(b"-")[0]), columns)
