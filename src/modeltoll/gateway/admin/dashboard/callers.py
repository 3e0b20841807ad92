"""The table of callers: totals, suspicion, and leaks beside the band of honest callers."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modeltoll.gateway.admin.dashboard.ledger_reader import LedgerSnapshot
    from modeltoll.gateway.admin.dashboard.log_arrays import DayLog
    from modeltoll.gateway.admin.dashboard.suspects import Finding, SuspicionEvidence
    from modeltoll.pricing.conformal_tariff import ConformalTariff
    from modeltoll.records import Account, Floats

__all__ = [
    "BAND_SIGMAS",
    "MAX_CALLERS",
    "SORTS",
    "CallerRow",
    "LeakBand",
    "caller_rows",
    "suspicion_level",
]

BAND_SIGMAS = 1.96  # half width of the band in standard errors: 95 % of honest callers, by the normal approximation
SORTS = ("work", "evidence", "rows")
MAX_CALLERS = 200  # rows of the table, at most
_AXIS_MEANS = 3.0  # length of a band's axis, in honest means


@dataclass(frozen=True, slots=True)
class LeakBand:
    """A caller's mean leak per row under one measure, and the band of 95 % of honest callers with as many rows.

    ``leak_at``, ``low_at`` and ``high_at`` are the same as positions 0..100 on an axis that ends at three honest means.
    """

    measure: str
    leak: float
    low: float
    high: float
    leak_at: float
    low_at: float
    high_at: float


@dataclass(frozen=True, slots=True)
class CallerRow:
    """One caller of one model.

    ``hash`` identifies the caller in the log; ``name`` is the account's, or None if the account is not among those with
    the most work. ``rows``, ``work`` (reference seconds) and ``last`` (seconds since the epoch) are the account's, or else
    the day's. ``day_rows``, ``day_work`` and ``bands`` are from the day's log. ``evidence`` is None if there is no account,
    or its counts belong to another tariff.
    """

    hash: str
    name: str | None
    rows: int
    work: float
    last: float
    day_rows: int
    day_work: float
    suspected_today: bool
    evidence: SuspicionEvidence | None
    bands: tuple[LeakBand, ...]


def suspicion_level(tariff: ConformalTariff, rows: Floats) -> tuple[Floats, Floats, Floats]:
    """Mean, lower and upper end of honest callers' total leaks after ``rows`` rows (n,), each (measures, n)."""
    scores = tariff.calibration.scores
    mean = scores.mean(axis=1)[:, None] * rows
    spread = BAND_SIGMAS * scores.std(axis=1)[:, None] * np.sqrt(rows)
    return mean, np.maximum(mean - spread, 0.0), mean + spread


@dataclass(frozen=True, slots=True)
class _DayTotals:
    """Totals of one caller in the day's log; ``leaks`` (measures,) are sums over the ``measured`` rows."""

    rows: int = 0
    work: float = 0.0
    last: float = 0.0
    suspected: bool = False
    measured: int = 0
    leaks: tuple[float, ...] = ()


def _day_totals(day: DayLog) -> dict[str, _DayTotals]:
    """Totals of each caller in the day's log, by hash."""
    count, row_callers = len(day.hashes), day.callers[day.row_lines]
    last = np.zeros(count)
    np.maximum.at(last, day.callers, day.at)
    columns = (
        np.bincount(day.callers, day.rows, count).astype(np.int64).tolist(),
        np.bincount(day.callers, day.seconds, count).tolist(),
        last.tolist(),
        (np.bincount(day.callers, day.suspected, count) > 0).tolist(),
        np.bincount(row_callers, minlength=count).tolist(),
        zip(*(np.bincount(row_callers, column, count).tolist() for column in day.leaks.T), strict=True),
    )
    lines = zip(day.hashes, *columns, strict=True)
    return {name: _DayTotals(*sums) for name, *sums in lines if sums[2] > 0.0}


def caller_rows(
    snapshot: LedgerSnapshot,
    day: DayLog,
    tariff: ConformalTariff | None,
    found: Mapping[str, Finding],
    sort: str,
    limit: int | None,
) -> tuple[tuple[CallerRow, ...], int]:
    """The first ``limit`` callers (None: 200), sorted by one of ``SORTS``, and the number of all known callers.

    ``found``: what the tariff concludes from the accounts, by hash.
    """
    totals = _day_totals(day)
    accounts = {
        hashed: account
        for hashed, account in zip(snapshot.hashes, snapshot.accounts, strict=True)
        if account.model == day.model
    }
    rows_found = [
        _caller_row(hashed, accounts.get(hashed), totals.get(hashed, _DayTotals()), found.get(hashed))
        for hashed in accounts.keys() | totals.keys()
    ]
    rows_found.sort(key=lambda each: (*_sort_key(each, sort), each.hash))
    listed = rows_found[: limit or MAX_CALLERS]
    return tuple([replace(each, bands=_leak_bands(tariff, totals.get(each.hash))) for each in listed]), len(rows_found)


def _sort_key(row: CallerRow, sort: str) -> tuple[float, ...]:
    """Sort key: the largest first."""
    power = row.evidence.power if row.evidence else -math.inf
    key = {"work": row.work, "evidence": power, "rows": row.rows}[sort]
    return -key, -row.work, -row.rows


def _caller_row(hashed: str, account: Account | None, totals: _DayTotals, finding: Finding | None) -> CallerRow:
    return CallerRow(
        hash=hashed,
        name=account.caller.name if account else None,
        rows=account.rows if account else totals.rows,
        work=account.work if account else totals.work,
        last=account.last_seen if account else totals.last,
        day_rows=totals.rows,
        day_work=totals.work,
        suspected_today=totals.suspected,
        evidence=finding.evidence if finding else None,
        bands=(),
    )


def _leak_bands(tariff: ConformalTariff | None, totals: _DayTotals | None) -> tuple[LeakBand, ...]:
    if tariff is None or totals is None or not totals.measured:
        return ()
    mean, low, high = (
        end[:, 0] / totals.measured for end in suspicion_level(tariff, np.array([float(totals.measured)]))
    )
    leaks = np.array(totals.leaks) / totals.measured
    scale = 100.0 / (_AXIS_MEANS * np.where(mean > 0.0, mean, 1.0))
    positions = [np.clip(values * scale, 0.0, 100.0).round(2).tolist() for values in (leaks, low, high)]
    columns = zip(tariff.measures, leaks.tolist(), low.tolist(), high.tolist(), *positions, strict=True)
    return tuple(LeakBand(*values) for values in columns)
