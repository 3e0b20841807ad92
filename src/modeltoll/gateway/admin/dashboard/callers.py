"""The largest and the most suspect callers, their leak against the band in which honest callers' leaks lie."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from modeltoll.gateway.admin.dashboard.ledger_reader import LedgerSnapshot
    from modeltoll.gateway.admin.dashboard.log_arrays import DayLog
    from modeltoll.pricing.conformal import ConformalTariff
    from modeltoll.records import Account, Floats

__all__ = [
    "BAND",
    "MOST",
    "SORTS",
    "CallerRow",
    "LeakBand",
    "SuspicionEvidence",
    "caller_rows",
    "evidence_of",
    "suspicion_level",
]

BAND = 1.96  # standard errors to both sides: 95 of 100 honest callers, by the normal law
SORTS = ("work", "evidence", "rows")
MOST = 200  # callers that are listed at most
_WIDEST = 3.0  # honest means that a strip shows
_TEN = math.log(10.0)


@dataclass(frozen=True, slots=True)
class LeakBand:
    """A caller's mean leak a row under one measure, and the band where honest callers of as many rows lie.

    The ``_at`` are the same as places from 0 to 100, where 100 is three times the honest mean, or more.
    """

    measure: str
    leak: float
    low: float
    high: float
    leak_at: float
    low_at: float
    high_at: float


@dataclass(frozen=True, slots=True)
class SuspicionEvidence:
    """The evidence against a caller, and the threshold from which on he is suspected, both in powers of ten."""

    power: float
    threshold: float
    surcharge: float

    @property
    def suspected(self) -> bool:
        """Whether he is under suspicion now."""
        return self.surcharge > 1.0


@dataclass(frozen=True, slots=True)
class CallerRow:
    """One caller of one model.

    ``hash`` is his name in the log, ``name`` the one of his account, None where that is not among those with the most
    work. ``rows``, ``work`` (reference seconds) and ``last`` (seconds since the epoch) are the account's, or else of
    the day's log, as are ``day_rows``, ``day_work`` and ``strips`` in any case. ``evidence`` is None where the account
    was kept under another tariff, or there is none.
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
    strips: tuple[LeakBand, ...]


def evidence_of(account: Account, tariff: ConformalTariff) -> SuspicionEvidence | None:
    """What speaks against a caller, by an account whose counts are faded to now."""
    if account.tariff != tariff.identity:
        return None
    suspicion = tariff.suspicion
    log_evidence = suspicion.log_evidence_of(account.counts)
    surcharge = float(suspicion.surcharge_at(log_evidence))
    return SuspicionEvidence(log_evidence / _TEN, -math.log10(suspicion.terms.alpha), surcharge)


def suspicion_level(tariff: ConformalTariff, rows: Floats) -> tuple[Floats, Floats, Floats]:
    """Mean, lower and upper end of honest callers' total leaks after so many ``rows`` (n,), each (measures, n)."""
    scores = tariff.calibration.scores
    mean = scores.mean(axis=1)[:, None] * rows
    spread = BAND * scores.std(axis=1)[:, None] * np.sqrt(rows)
    return mean, np.maximum(mean - spread, 0.0), mean + spread


@dataclass(frozen=True, slots=True)
class _Today:
    """What one caller did in the day's log: ``leaks`` (measures,) are the sums over his ``measured`` rows."""

    rows: int = 0
    work: float = 0.0
    last: float = 0.0
    suspected: bool = False
    measured: int = 0
    leaks: tuple[float, ...] = ()


def _today(day: DayLog) -> dict[str, _Today]:
    """Of each caller in the day's log, by his hash."""
    count, of_rows = len(day.names), day.callers[day.row_lines]
    last = np.zeros(count)
    np.maximum.at(last, day.callers, day.at)
    columns = (
        np.bincount(day.callers, day.rows, count).astype(np.int64).tolist(),
        np.bincount(day.callers, day.seconds, count).tolist(),
        last.tolist(),
        (np.bincount(day.callers, day.suspected, count) > 0).tolist(),
        np.bincount(of_rows, minlength=count).tolist(),
        zip(*(np.bincount(of_rows, column, count).tolist() for column in day.leaks.T), strict=True),
    )
    lines = zip(day.names, *columns, strict=True)
    return {name: _Today(*sums) for name, *sums in lines if sums[2] > 0.0}


def caller_rows(
    reading: LedgerSnapshot, day: DayLog, tariff: ConformalTariff | None, sort: str, limit: int | None
) -> tuple[tuple[CallerRow, ...], int]:
    """The first ``limit`` callers (None: 200) by one of ``SORTS``, and how many are known in all."""
    today = _today(day)
    accounts = {
        hashed: account
        for hashed, account in zip(reading.hashes, reading.accounts, strict=True)
        if account.model == day.model
    }
    known = [
        _caller_row(hashed, accounts.get(hashed), today.get(hashed, _Today()), tariff)
        for hashed in accounts.keys() | today.keys()
    ]
    known.sort(key=lambda each: (*_size(each, sort), each.hash))
    first = known[: limit or MOST]
    return tuple([replace(each, strips=_leak_bands(tariff, today.get(each.hash))) for each in first]), len(known)


def _size(standing: CallerRow, sort: str) -> tuple[float, ...]:
    """What comes first is smallest."""
    power = standing.evidence.power if standing.evidence else -math.inf
    first = {"work": standing.work, "evidence": power, "rows": standing.rows}[sort]
    return -first, -standing.work, -standing.rows


def _caller_row(hashed: str, account: Account | None, today: _Today, tariff: ConformalTariff | None) -> CallerRow:
    return CallerRow(
        hash=hashed,
        name=account.caller.name if account else None,
        rows=account.rows if account else today.rows,
        work=account.work if account else today.work,
        last=account.last_seen if account else today.last,
        day_rows=today.rows,
        day_work=today.work,
        suspected_today=today.suspected,
        evidence=evidence_of(account, tariff) if account and tariff else None,
        strips=(),
    )


def _leak_bands(tariff: ConformalTariff | None, today: _Today | None) -> tuple[LeakBand, ...]:
    if tariff is None or today is None or not today.measured:
        return ()
    mean, low, high = (end[:, 0] / today.measured for end in suspicion_level(tariff, np.array([float(today.measured)])))
    leaks = np.array(today.leaks) / today.measured
    scale = 100.0 / (_WIDEST * np.where(mean > 0.0, mean, 1.0))
    places = [np.clip(values * scale, 0.0, 100.0).round(2).tolist() for values in (leaks, low, high)]
    columns = zip(tariff.measures, leaks.tolist(), low.tolist(), high.tolist(), *places, strict=True)
    return tuple(LeakBand(*values) for values in columns)
