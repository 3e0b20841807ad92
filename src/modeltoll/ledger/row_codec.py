"""Convert records to columns and back, for ledgers with columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from modeltoll.records import Account, LogEntry, Work

if TYPE_CHECKING:
    from modeltoll.records import Caller

__all__ = ["LOG_COLUMNS", "bounded", "decode_account", "decode_line", "encode_line", "json_text", "signed_fingerprint"]

# The columns of the log, in the order of encode_line, with their types; measures, leaks and rarest are JSON.
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
    """The account from its columns.

    These are model, rows, requests, work, tariff, first_seen, last_seen, measures, leaks and the flattened counts.
    """
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


def encode_line(hashed: str, entry: LogEntry) -> tuple[Any, ...]:
    """The values of ``LOG_COLUMNS``; ``hashed`` is the caller's pseudonym."""
    work = entry.work
    return (
        entry.at,
        hashed,
        entry.model,
        entry.rows,
        json_text(entry.measures),
        json_text(entry.leaks),
        json_text(entry.rarest),
        entry.mode,
        work.seconds,
        work.rows,
        work.rows_seconds,
        work.new_account_seconds,
        work.surcharge,
        work.group_surcharge,
    )


def decode_line(columns: tuple[Any, ...]) -> tuple[int, str, LogEntry]:
    """(line number, hashed caller, entry) from a line's number and the values of ``LOG_COLUMNS``."""
    number, at, hashed, model, rows, measures, leaks, rarest, mode, *work = columns
    entry = LogEntry(
        at=at,
        model=model,
        rows=rows,
        measures=tuple(msgspec.json.decode(measures)),
        leaks=tuple(map(tuple, msgspec.json.decode(leaks))),
        rarest=tuple(msgspec.json.decode(rarest)),
        work=Work(*work),
        mode=mode,
    )
    return number, hashed, entry


def json_text(value: object) -> str:
    """JSON in which floats survive the round trip exactly."""
    return msgspec.json.encode(value, enc_hook=float).decode()  # the hook is for numpy's floats


def signed_fingerprint(fingerprint: bytes) -> int:
    """A fingerprint as a signed integer of 8 bytes."""
    return int.from_bytes(fingerprint, "big", signed=True)


def bounded(count: int) -> int:
    """A count or line number, clipped to 0 and the largest signed integer of 8 bytes."""
    return max(0, min(count, 2**63 - 1))
