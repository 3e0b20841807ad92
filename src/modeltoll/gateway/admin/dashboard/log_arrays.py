"""The last day of a ledger's log, as arrays."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.records import Leaks

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from modeltoll.records import Bools, Floats, Integers, LogEntry

__all__ = ["DAY", "MODES", "DayLog", "LogPage", "LogTail", "pages_of"]

DAY = 86_400.0  # seconds
MODES = ("sealed", "redeem", "free", "shadow", "exempt")
_EXEMPT = MODES.index("exempt")
_OTHER = len(MODES)  # a mode that later versions may know
_TRIFLE = 1e-9  # of a surcharge: above it a caller was under suspicion


@dataclass(frozen=True, slots=True, eq=False)
class LogPage:
    """Some lines of the log, of one model and the same measures, in the log's order.

    ``callers`` are hashes; ``at`` is in seconds since the epoch, ``work`` (lines, 4) in reference seconds: asked in all,
    for the rows, as entry toll; and the surcharge. ``rows`` (lines,) counts rows, ``leaks`` (rows, measures) and
    ``rarest`` (rows,) are theirs, line after line.
    """

    model: str
    measures: tuple[str, ...]
    callers: tuple[str, ...]
    at: Floats
    rows: Integers
    modes: Integers
    work: Floats
    leaks: Floats
    rarest: Floats


def pages_of(lines: Iterable[tuple[int, str, LogEntry]]) -> list[LogPage]:
    """The lines as pages, neighbours of one kind together."""
    return [
        _page(model, measures, [(caller, bill) for _, caller, bill in group])
        for (model, measures), group in groupby(lines, key=lambda line: (line[2].model, line[2].measures))
    ]


def _page(model: str, measures: tuple[str, ...], lines: Sequence[tuple[str, LogEntry]]) -> LogPage:
    bills = [bill for _, bill in lines]
    work = [
        (bill.work.seconds, bill.work.rows_seconds, bill.work.new_account_seconds, bill.work.surcharge)
        for bill in bills
    ]
    leaks = [leaks for bill in bills for leaks in bill.leaks]
    return LogPage(
        model=model,
        measures=measures,
        callers=tuple([caller for caller, _ in lines]),
        at=np.array([bill.at for bill in bills]),
        rows=np.array([len(bill.leaks) for bill in bills], np.int64),
        modes=np.array([MODES.index(bill.mode) if bill.mode in MODES else _OTHER for bill in bills]),
        work=np.array(work).reshape(-1, 4),
        leaks=np.array(leaks, np.float64).reshape(-1, len(measures)),
        rarest=np.array([p for bill in bills for p in bill.rarest]),
    )


@dataclass(frozen=True, slots=True, eq=False)
class DayLog:
    """One model's lines from ``since`` to ``until``, in seconds since the epoch, and the rows of those lines.

    ``names`` are the callers' hashes, ``callers`` (lines,) says whose line it is. ``row_lines`` (rows,) says to which line
    a row belongs; ``leaks`` (rows, measures) and ``rarest`` (rows,) are only of lines with these ``measures``, which
    ``measured`` (lines,) marks. ``whole`` is False where earlier lines of the day were left out, since they are too many.
    """

    model: str
    measures: tuple[str, ...]
    since: float
    until: float
    whole: bool
    names: tuple[str, ...]
    callers: Integers
    at: Floats
    rows: Integers
    modes: Integers
    work: Floats
    measured: Bools
    row_lines: Integers
    leaks: Floats
    rarest: Floats

    @property
    def seconds(self) -> Floats:
        """Reference seconds asked, (lines,); in shadow mode, those that would have been."""
        asked: Floats = np.where(self.exempt, 0.0, self.work[:, 0])
        return asked

    @property
    def rows_seconds(self) -> Floats:
        """The same for the rows alone, without entry tolls, (lines,)."""
        asked: Floats = np.where(self.exempt, 0.0, self.work[:, 1])
        return asked

    @property
    def exempt(self) -> Bools:
        """Whether the line is of a caller who pays nothing, (lines,)."""
        exempt: Bools = self.modes == _EXEMPT
        return exempt

    @property
    def suspected(self) -> Bools:
        """Whether the line's caller was under suspicion when it was written, (lines,)."""
        above: Bools = self.work[:, 3] > 1.0 + _TRIFLE
        return above

    @property
    def honest(self) -> Bools:
        """Lines of callers who pay and were not under suspicion, (lines,)."""
        others: Bools = self.exempt | self.suspected
        return ~others

    @property
    def leak_record(self) -> Leaks:
        """The leaks of the rows, as tariffs take them."""
        return Leaks(self.measures, self.leaks)

    def count(self, mode: str) -> int:
        """How many lines are of that mode."""
        return int((self.modes == MODES.index(mode)).sum())

    def rows_of(self, lines: Bools) -> Bools:
        """Which rows are of these lines (lines,), as a mask (rows,)."""
        rows: Bools = lines[self.row_lines]
        return rows

    def only(self, lines: Bools) -> DayLog:
        """The day with these lines (lines,) alone."""
        rows = self.rows_of(lines)
        return replace(
            self,
            callers=self.callers[lines],
            at=self.at[lines],
            rows=self.rows[lines],
            modes=self.modes[lines],
            work=self.work[lines],
            measured=self.measured[lines],
            row_lines=(np.cumsum(lines) - 1)[self.row_lines[rows]],
            leaks=self.leaks[rows],
            rarest=self.rarest[rows],
        )


@dataclass(frozen=True, slots=True, eq=False)
class LogTail:
    """What was read of the log: all lines from ``since`` to ``until``, or, where not ``whole``, as many as may be held."""

    pages: tuple[LogPage, ...]
    since: float
    until: float
    whole: bool

    def day(self, model: str, measures: tuple[str, ...]) -> DayLog:
        """One model's lines, and the rows of those with these measures."""
        mine = [page for page in self.pages if page.model == model]
        fitting = [page for page in mine if page.measures == measures]
        names: dict[str, int] = {}
        callers = np.array([names.setdefault(name, len(names)) for page in mine for name in page.callers], np.int64)
        measured = np.array([page.measures == measures for page in mine for _ in page.callers], np.bool_)
        at, rows = _joined([page.at for page in mine]), _joined([page.rows for page in mine]).astype(np.int64)
        every = DayLog(
            model=model,
            measures=measures,
            since=self.since,
            until=self.until,
            whole=self.whole,
            names=tuple(names),
            callers=callers,
            at=at,
            rows=rows,
            modes=_joined([page.modes for page in mine]).astype(np.int64),
            work=_joined([page.work.ravel() for page in mine]).reshape(-1, 4),
            measured=measured,
            row_lines=np.repeat(np.arange(len(at)), np.where(measured, rows, 0)),
            leaks=_joined([page.leaks.ravel() for page in fitting]).reshape(-1, len(measures)),
            rarest=_joined([page.rarest for page in fitting]),
        )
        return every.only((at >= self.since) & (at <= self.until))


def _joined(parts: Sequence[Floats | Integers]) -> Floats:
    return np.concatenate([np.empty(0), *parts])
