"""Records to columns and back, for every store that has columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from modeltoll.records import Account, LogEntry, Work

if TYPE_CHECKING:
    from modeltoll.records import Caller

__all__ = ["LOG_COLUMNS", "bounded", "decode_account", "decode_line", "encode_line", "json_text", "signed_fingerprint"]

# The columns of a line of the log, in the order of encode_line, and what they hold; measures, leaks and rarest are JSON.
LOG_COLUMNS: dict[str, type[float | int | str]] = {
    "at": float,
    "caller": str,
    "model": str,
    "rows": int,
    "measures": str,
    "leaks": str,
    "rarest": str,
    "mode": str,
    "work": float,
    "work_rows": int,
    "rows_seconds": float,
    "entry_seconds": float,
    "surcharge": float,
    "group_surcharge": float,
}


def decode_account(caller: Caller, columns: tuple[Any, ...]) -> Account:
    """From (model, rows, requests, work, tariff, first_seen, last_seen, measures, leaks, counts), counts row after row."""
    model, rows, requests, work, tariff, first_seen, last_seen, measures, leaks, counts = columns
    flat = tuple(counts)
    width = len(flat) // max(1, measures)
    return Account(
        caller=caller,
        model=model,
        rows=rows,
        requests=requests,
        leaks=tuple(leaks),
        counts=tuple([flat[row * width : (row + 1) * width] for row in range(measures)]),
        work=work,
        tariff=tariff,
        first_seen=first_seen,
        last_seen=last_seen,
    )


def encode_line(hashed: str, bill: LogEntry) -> tuple[Any, ...]:
    """The columns of ``LOG_COLUMNS``; ``hashed`` is the caller's hash."""
    work = bill.work
    return (
        bill.at,
        hashed,
        bill.model,
        bill.rows,
        json_text(bill.measures),
        json_text(bill.leaks),
        json_text(bill.rarest),
        bill.mode,
        work.seconds,
        work.rows,
        work.rows_seconds,
        work.new_account_seconds,
        work.surcharge,
        work.group_surcharge,
    )


def decode_line(found: tuple[Any, ...]) -> tuple[int, str, LogEntry]:
    """(line number, hashed caller, bill) from a line's number and the columns of ``LOG_COLUMNS``."""
    number, at, hashed, model, rows, measures, leaks, rarest, mode, *work = found
    bill = LogEntry(
        at=at,
        model=model,
        rows=rows,
        measures=tuple(msgspec.json.decode(measures)),
        leaks=tuple(map(tuple, msgspec.json.decode(leaks))),
        rarest=tuple(msgspec.json.decode(rarest)),
        work=Work(*work),
        mode=mode,
    )
    return number, hashed, bill


def json_text(value: object) -> str:
    """JSON in which a float reads back as it was."""
    return msgspec.json.encode(value, enc_hook=float).decode()  # numpy has floats of its own


def signed_fingerprint(fingerprint: bytes) -> int:
    """A fingerprint as a column of 8 bytes holds it."""
    return int.from_bytes(fingerprint, "big", signed=True)


def bounded(count: int) -> int:
    """A count or a line number from 0 to the largest that a column of 8 bytes holds."""
    return max(0, min(count, 2**63 - 1))
