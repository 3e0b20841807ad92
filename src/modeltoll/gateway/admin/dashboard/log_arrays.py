"""The log of one day as arrays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.names import clean_name
from modeltoll.records import Leaks

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from modeltoll.gateway.admin.dashboard.suspected_since import SuspectedSince
    from modeltoll.pricing.conformal_tariff import ConformalTariff
    from modeltoll.records import Assessment, Bools, Floats, Integers, LogEntry

__all__ = ["DAY", "MODES", "DayLog", "LogPage", "LogTail", "pages_of"]

DAY = 86_400.0  # seconds
MODES = ("sealed", "redeem", "free", "shadow", "exempt", "prepaid")
_EXEMPT, _SHADOW = MODES.index("exempt"), MODES.index("shadow")
_NO_CLASS = -1
_OTHER = len(MODES)  # a mode of a later version
_TOLERANCE = 1e-9  # surcharges above 1 by more than this mean suspicion


@dataclass(frozen=True, slots=True, eq=False)
class LogPage:
    """Consecutive lines of the log, of one model and the same measures.

    ``callers`` are hashes; ``at`` is in seconds since the epoch. The columns of ``work`` (lines, 4) are reference seconds
    in all, for the rows, and as new-account toll; and the surcharge. ``rows`` (lines,) counts rows; ``leaks``
    (rows, measures), ``rarest`` (rows,), the smallest p-value, and ``classes`` (rows,), the predicted class or -1, are those
    of the rows, in order. ``reasons`` (lines,): why shadow mode did not measure the request; empty where it was measured.
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
    classes: Integers
    reasons: tuple[str, ...] = ()

    @property
    def suspected(self) -> Bools:
        """Whether the caller was suspected at the time, (lines,)."""
        above: Bools = self.work[:, 3] > 1.0 + _TOLERANCE
        return above

    def has(self, measures: tuple[str, ...]) -> bool:
        """Whether its rows have leaks of these measures, and beside them at most of the same fitted without kinds."""
        others = {clean_name(name) for name in measures}
        return self.measures[: len(measures)] == measures and others.issuperset(self.measures[len(measures) :])

    def columns(self, measures: tuple[str, ...], *, clean: bool = False) -> Floats:
        """The leaks (rows, measures) by these measures, or by those fitted without kinds, where the page has them."""
        names = [clean_name(name) if clean and clean_name(name) in self.measures else name for name in measures]
        return self.leaks[:, [self.measures.index(name) for name in names]]


def pages_of(lines: Iterable[tuple[int, str, LogEntry]]) -> list[LogPage]:
    """Group consecutive lines of the same model and measures."""
    return [
        _page(model, measures, [(caller, entry) for _, caller, entry in group])
        for (model, measures), group in groupby(lines, key=lambda line: (line[2].model, line[2].measures))
    ]


def _page(model: str, measures: tuple[str, ...], lines: Sequence[tuple[str, LogEntry]]) -> LogPage:
    entries = [entry for _, entry in lines]
    work = [
        (entry.work.seconds, entry.work.rows_seconds, entry.work.new_account_seconds, entry.work.surcharge)
        for entry in entries
    ]
    leaks = [leaks for entry in entries for leaks in entry.leaks]
    return LogPage(
        model=model,
        measures=measures,
        callers=tuple([caller for caller, _ in lines]),
        at=np.array([entry.at for entry in entries]),
        rows=np.array([len(entry.leaks) for entry in entries], np.int64),
        modes=np.array([MODES.index(entry.mode) if entry.mode in MODES else _OTHER for entry in entries]),
        work=np.array(work).reshape(-1, 4),
        leaks=np.array(leaks, np.float64).reshape(len(leaks), len(measures)),
        rarest=np.array([p for entry in entries for p in entry.rarest]),
        reasons=tuple([entry.reason for entry in entries]),
        classes=np.array(
            [each for entry in entries for each in entry.classes or (_NO_CLASS,) * len(entry.leaks)], np.int64
        ),
    )


@dataclass(frozen=True, slots=True, eq=False)
class DayLog:
    """One model's lines from ``since`` to ``until``, in seconds since the epoch, and their rows.

    ``hashes`` are those of the callers; ``callers`` (lines,) are indices into them. ``row_lines`` (rows,) is the line of
    each row; ``leaks``, ``clean`` (rows, measures), ``rarest`` and ``classes`` (rows,) hold only rows of lines with these
    ``measures``, which ``measured`` (lines,) marks. ``clean``: the leaks by the measures fitted without kinds, as far as they
    are logged. ``classes``: -1 where there is none. ``complete`` is False if earlier lines of the day were dropped, because
    there are too many. ``suspected_before``: by hash, who was suspected at the last one of the caller's dropped lines. ``priced_here``
    (lines,), or empty: the lines whose work ``priced`` has put in.
    """

    model: str
    measures: tuple[str, ...]
    since: float
    until: float
    complete: bool
    hashes: tuple[str, ...]
    callers: Integers
    at: Floats
    rows: Integers
    modes: Integers
    work: Floats
    measured: Bools
    row_lines: Integers
    leaks: Floats
    clean: Floats
    rarest: Floats
    classes: Integers
    suspected_before: Mapping[str, SuspectedSince | None] = field(default_factory=dict)
    priced_here: Bools = field(default_factory=lambda: np.zeros(0, np.bool_))

    @property
    def seconds(self) -> Floats:
        """Work in reference seconds, (lines,); 0 for exempt callers; in shadow mode what would have been asked."""
        seconds: Floats = np.where(self.exempt, 0.0, self.work[:, 0])
        return seconds

    @property
    def rows_seconds(self) -> Floats:
        """Work of the rows only, without new-account tolls, (lines,)."""
        seconds: Floats = np.where(self.exempt, 0.0, self.work[:, 1])
        return seconds

    @property
    def exempt(self) -> Bools:
        """Whether the caller is exempt, (lines,)."""
        exempt: Bools = self.modes == _EXEMPT
        return exempt

    @property
    def suspected(self) -> Bools:
        """Whether the caller was suspected at the time, (lines,)."""
        above: Bools = self.work[:, 3] > 1.0 + _TOLERANCE
        return above

    @property
    def unsuspected(self) -> Bools:
        """Whether the caller pays and was not suspected at the time, (lines,)."""
        excluded: Bools = self.exempt | self.suspected
        return ~excluded

    @property
    def unpriced(self) -> Bools:
        """Whether the line was logged in shadow mode before there was a tariff, (lines,)."""
        unpriced: Bools = (self.modes == _SHADOW) & (self.work[:, 1] <= 0.0) & self.measured & (self.rows > 0)
        return unpriced

    @property
    def leak_record(self) -> Leaks:
        """The leaks of the rows, for a tariff."""
        return Leaks(self.measures, self.leaks, self.classes if (self.classes != _NO_CLASS).any() else None)

    def priced(self, tariff: ConformalTariff, assessment: Assessment) -> DayLog:
        """The day with the ``unpriced`` lines priced by a tariff, without suspicion; ``assessment``: of the day's rows."""
        lines = self.unpriced
        if not lines.any():
            return self
        seconds = tariff.unit_seconds * np.bincount(self.row_lines, assessment.factors, len(self.at))
        work = self.work.copy()
        work[lines, :2] = seconds[lines, None]
        rarest = np.where(self.rows_of(lines), assessment.rarest, self.rarest)
        return replace(self, work=work, rarest=rarest, priced_here=lines)

    def count(self, mode: str) -> int:
        """Number of lines of a mode."""
        return int((self.modes == MODES.index(mode)).sum())

    def rows_of(self, lines: Bools) -> Bools:
        """The mask (rows,) of the rows of the lines in a mask (lines,)."""
        rows: Bools = lines[self.row_lines]
        return rows

    def select(self, lines: Bools) -> DayLog:
        """The day with only the lines of a mask (lines,)."""
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
            clean=self.clean[rows],
            rarest=self.rarest[rows],
            classes=self.classes[rows],
            priced_here=self.priced_here[lines] if len(self.priced_here) else self.priced_here,
        )


@dataclass(frozen=True, slots=True, eq=False)
class LogTail:
    """The lines of the log from ``since`` to ``until``; not ``complete`` if earlier lines of the day were dropped.

    ``suspected_before``: by model and hash, see ``DayLog``.
    """

    pages: tuple[LogPage, ...]
    since: float
    until: float
    complete: bool
    suspected_before: Mapping[tuple[str, str], SuspectedSince | None] = field(default_factory=dict)

    def unmeasured(self, model: str) -> tuple[int, Counter[str]]:
        """How many requests of a model there are, and how many of them were not measured, by the reason."""
        pages = [page for page in self.pages if page.model == model]
        reasons = Counter(reason for page in pages for reason in page.reasons if reason)
        return sum(len(page.at) for page in pages), reasons

    def day(self, model: str, measures: tuple[str, ...]) -> DayLog:
        """One model's lines, with the rows of those that have these measures."""
        model_pages = [page for page in self.pages if page.model == model]
        has_measures = [page.has(measures) for page in model_pages]
        measured_pages = [page for page, has in zip(model_pages, has_measures, strict=True) if has]
        hashes: dict[str, int] = {}
        callers = np.array(
            [hashes.setdefault(name, len(hashes)) for page in model_pages for name in page.callers], np.int64
        )
        measured = np.repeat(np.array(has_measures, np.bool_), [len(page.callers) for page in model_pages])
        at, rows = (
            _concatenated([page.at for page in model_pages]),
            _concatenated([page.rows for page in model_pages]).astype(np.int64),
        )
        all_lines = DayLog(
            model=model,
            measures=measures,
            since=self.since,
            until=self.until,
            complete=self.complete,
            hashes=tuple(hashes),
            callers=callers,
            at=at,
            rows=rows,
            modes=_concatenated([page.modes for page in model_pages]).astype(np.int64),
            work=_concatenated([page.work.ravel() for page in model_pages]).reshape(-1, 4),
            measured=measured,
            row_lines=np.repeat(np.arange(len(at)), np.where(measured, rows, 0)),
            leaks=_stacked([page.columns(measures) for page in measured_pages], len(measures)),
            clean=_stacked([page.columns(measures, clean=True) for page in measured_pages], len(measures)),
            rarest=_concatenated([page.rarest for page in measured_pages]),
            classes=_concatenated([page.classes for page in measured_pages]).astype(np.int64),
            suspected_before={
                hashed: since for (name, hashed), since in self.suspected_before.items() if name == model
            },
        )
        return all_lines.select((at >= self.since) & (at <= self.until))


def _stacked(parts: Sequence[Floats], columns: int) -> Floats:
    return np.concatenate([np.empty((0, columns)), *parts])


def _concatenated(parts: Sequence[Floats | Integers]) -> Floats:
    return np.concatenate([np.empty(0), *parts])
