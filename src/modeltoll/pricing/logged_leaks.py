"""The leaks that a gateway wrote to its ledger's log, with the caller and the predicted class of each row."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.errors import CalibrationError
from modeltoll.names import clean_name
from modeltoll.records import Leaks

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from modeltoll.records import Bools, Floats, Integers, LogEntry

__all__ = ["UNKNOWN_CLASS", "LoggedLeaks", "leaks_of_log"]

UNKNOWN_CLASS = -1  # of a logged row whose answer had no scores
_LARGE_SHARE = 0.25  # of the logged rows; a caller with more of them dominates the tariff


@dataclass(frozen=True, slots=True, eq=False)
class LoggedLeaks:
    """The leaks of one model in a ledger's log.

    ``callers`` (rows,): the pseudonym of each row's caller. ``at`` (rows,): seconds since the epoch. ``unsuspected``
    (rows,): whether the row came before any suspicion of its caller. ``warnings``: reasons to doubt that the rows are honest.
    """

    leaks: Leaks
    callers: tuple[str, ...]
    at: Floats
    unsuspected: Bools
    warnings: tuple[str, ...]


def leaks_of_log(
    lines: Iterable[tuple[int, str, LogEntry]], model: str, measures: tuple[str, ...], modes: tuple[str, ...]
) -> LoggedLeaks:
    """The leaks of the rows that a model answered in these modes, from lines as ``Ledger.log`` returns them.

    Leaks by the measures fitted without kinds are included where every line has them, as further measures. The classes
    are None where no line has them, and ``UNKNOWN_CLASS`` for rows of the other lines.

    Raises:
        CalibrationError: no line has these measures.
    """
    entries = [(caller, entry) for _, caller, entry in lines if entry.model == model and entry.mode in modes]
    wanted = [(caller, entry) for caller, entry in entries if _has(entry, measures)]
    if not wanted:
        found = sorted({", ".join(entry.measures) for _, entry in entries})
        found = [names for names in found if names]  # those without names were not measured
        what = f"; those there have leaks of {' or of '.join(found)}" if found else ""
        raise CalibrationError(
            f"the log holds no rows of {model!r} in {' or '.join(modes)} mode with leaks of {', '.join(measures)}{what}"
        )
    clean = [name for name in map(clean_name, measures) if all(name in entry.measures for _, entry in wanted)]
    recorded = (*measures, *clean)
    values = np.concatenate([_columns(entry, recorded) for _, entry in wanted])
    names = tuple(caller for caller, entry in wanted for _ in range(entry.rows))
    at = np.repeat([entry.at for _, entry in wanted], [entry.rows for _, entry in wanted])
    unmeasured = [entry.reason for _, entry in entries if entry.reason]
    warnings = (*_unmeasured(unmeasured, len(entries)), *_warnings(wanted))
    return LoggedLeaks(Leaks(recorded, values, _classes(wanted)), names, at, _unsuspected(wanted), warnings)


def _has(entry: LogEntry, measures: tuple[str, ...]) -> bool:
    """Whether the entry has leaks of exactly these measures, apart from the same ones fitted without kinds."""
    further = entry.measures[len(measures) :]
    return entry.measures[: len(measures)] == measures and set(further) <= set(map(clean_name, measures))


def _columns(entry: LogEntry, recorded: tuple[str, ...]) -> Floats:
    values = np.array(entry.leaks, dtype=np.float64).reshape(entry.rows, len(entry.measures))
    return values[:, [entry.measures.index(name) for name in recorded]]


def _classes(wanted: Sequence[tuple[str, LogEntry]]) -> Integers | None:
    if not any(entry.classes for _, entry in wanted):
        return None
    known = [entry.classes or (UNKNOWN_CLASS,) * entry.rows for _, entry in wanted]
    return np.array([label for labels in known for label in labels], dtype=np.int64)


def _unsuspected(wanted: Sequence[tuple[str, LogEntry]]) -> Bools:
    suspects: set[str] = set()
    before: list[bool] = []
    for caller, entry in wanted:
        if entry.work.suspected:
            suspects.add(caller)
        before += [caller not in suspects] * entry.rows
    return np.array(before)


def _unmeasured(reasons: Sequence[str], requests: int) -> tuple[str, ...]:
    if not reasons:
        return ()
    commonest, count = Counter(reasons).most_common(1)[0]
    left_out = f"{len(reasons)} of {requests} logged requests were not measured, and are left out"
    return (f"{left_out}; most often ({count} of them): {commonest}",)


def _warnings(wanted: Sequence[tuple[str, LogEntry]]) -> tuple[str, ...]:
    rows: Counter[str] = Counter()
    suspected: Counter[str] = Counter()
    for caller, entry in wanted:
        rows[caller] += entry.rows
        suspected[caller] += entry.rows * entry.work.suspected
    total, warnings = rows.total(), []
    caller, most = rows.most_common(1)[0]
    if len(rows) > 1 and most > _LARGE_SHARE * total:
        warnings.append(f"caller {caller} sent {most} of the {total} rows; the tariff takes them for honest")
    if suspect := suspected.total():
        warnings.append(f"{suspect} of the {total} rows came from callers under suspicion; look at them first")
    return tuple(warnings)
