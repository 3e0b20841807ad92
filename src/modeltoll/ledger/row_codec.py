"""Convert records to columns and back, for ledgers with columns."""

from __future__ import annotations

import struct
from itertools import chain
from typing import TYPE_CHECKING, Any

import msgspec

from modeltoll.ledger.counts_codec import pack_counts, unpack_counts
from modeltoll.records import Account, LogEntry, Work

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from modeltoll.evidence_records import EvidenceState
    from modeltoll.records import Caller

__all__ = [
    "LOG_COLUMNS",
    "OLD_LOG_COLUMNS",
    "bounded",
    "decode_account",
    "decode_line",
    "encode_line",
    "json_text",
    "signed_fingerprint",
]

# The columns of the log, in the order of encode_line, with their types; measures are JSON, numbers are as of
# _pack_numbers.
LOG_COLUMNS: dict[str, type[bytes | float | int | str]] = {
    "at": float,
    "caller": str,
    "model": str,
    "rows": int,
    "measures": str,
    "numbers": bytes,
    "mode": str,
    "work": float,
    "work_rows": int,
    "rows_seconds": float,
    "entry_seconds": float,
    "surcharge": float,
    "group_surcharge": float,
    "reason": str,
}
OLD_LOG_COLUMNS = ("leaks", "rarest")  # JSON, of lines that were written before the numbers were packed; else empty
_COUNTS = struct.Struct("<III")


def decode_account(caller: Caller, totals: tuple[Any, ...], leaks: Iterable[float], evidence: EvidenceState) -> Account:
    """The account from its columns. ``totals``: model, rows, requests, work, tariff, first_seen and last_seen."""
    model, rows, requests, work, tariff, first_seen, last_seen = totals
    return Account(
        caller=caller,
        model=model,
        rows=rows,
        requests=requests,
        leaks=tuple(leaks),
        evidence=evidence,
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
        _pack_numbers(entry.leaks, entry.rarest, entry.classes),
        entry.mode,
        work.seconds,
        work.rows,
        work.rows_seconds,
        work.new_account_seconds,
        work.surcharge,
        work.group_surcharge,
        entry.reason,
    )


def decode_line(number: int, columns: Mapping[str, Any]) -> tuple[int, str, LogEntry]:
    """(line number, hashed caller, entry) from ``LOG_COLUMNS`` and, where ``numbers`` are empty, ``OLD_LOG_COLUMNS``."""
    at, hashed, model, rows, measures, numbers, mode, *work, reason = (columns[name] for name in LOG_COLUMNS)
    if numbers:
        leaks, rarest, classes = _unpack_numbers(numbers)
    else:
        leaks, rarest = (msgspec.json.decode(columns[name]) for name in OLD_LOG_COLUMNS)
        classes = ()
    entry = LogEntry(
        at=at,
        model=model,
        rows=rows,
        measures=tuple(msgspec.json.decode(measures)),
        leaks=tuple(map(tuple, leaks)),
        rarest=tuple(rarest),
        work=Work(*work),
        mode=mode,
        classes=classes,
        reason=reason,
    )
    return number, hashed, entry


def _pack_numbers(leaks: Sequence[Sequence[float]], rarest: Sequence[float], classes: Sequence[int]) -> bytes:
    """12 bytes of counts (rows, leaks of each, p-values), then the leaks, row by row, and the p-values, as doubles; then
    the classes, if there are some, as ``counts_codec`` packs them.

    Doubles, because a calibration from the log compares them with leaks that are measured later: a constant leak that was
    rounded down would make every later row the rarest of all.
    """
    width = len(leaks[0]) if leaks else 0
    doubles = (*chain.from_iterable(leaks), *rarest)
    packed = _COUNTS.pack(len(leaks), width, len(rarest)) + struct.pack(f"<{len(doubles)}d", *doubles)
    return packed + pack_counts(classes) if classes else packed


def _unpack_numbers(packed: bytes) -> tuple[list[tuple[float, ...]], tuple[float, ...], tuple[int, ...]]:
    rows, width, count = _COUNTS.unpack_from(packed)
    doubles = struct.unpack_from(f"<{rows * width + count}d", packed, _COUNTS.size)
    leaks = [doubles[row * width : (row + 1) * width] for row in range(rows)]
    return leaks, doubles[rows * width :], unpack_counts(packed[_COUNTS.size + 8 * len(doubles) :])


def json_text(value: object) -> str:
    """JSON in which floats survive the round trip exactly."""
    return msgspec.json.encode(value, enc_hook=float).decode()  # the hook is for numpy's floats


def signed_fingerprint(fingerprint: bytes) -> int:
    """A fingerprint as a signed integer of 8 bytes."""
    return int.from_bytes(fingerprint, "big", signed=True)


def bounded(count: int) -> int:
    """A count or line number, clipped to 0 and the largest signed integer of 8 bytes."""
    return max(0, min(count, 2**63 - 1))
