"""The history of one caller: account, requests and leaks of the day."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.gateway.admin.dashboard.callers import evidence_of, suspicion_level
from modeltoll.gateway.admin.dashboard.charts import DashboardChart, Series, finite_values, log_axis
from modeltoll.gateway.admin.dashboard.log_arrays import MODES
from modeltoll.gateway.admin.dashboard.traffic import TrafficView, traffic_view

if TYPE_CHECKING:
    from modeltoll.gateway.admin.dashboard.callers import SuspicionEvidence
    from modeltoll.gateway.admin.dashboard.log_arrays import DayLog
    from modeltoll.pricing.conformal_tariff import ConformalTariff
    from modeltoll.records import Account

__all__ = ["History", "HistoryRow", "history"]

_CHART_POINTS = 300  # points of a leak chart, at most
_MAX_REQUESTS = 25
_MIN_ROWS = 5.0  # rows that a histogram needs


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """One request in the log: time (seconds since the epoch), rows, work (reference seconds), surcharge and mode.

    ``rarest`` is the smallest p-value of its rows; None if it was logged with other measures than the tariff's.
    """

    at: float
    rows: int
    rarest: float | None
    work: float
    surcharge: float
    mode: str


@dataclass(frozen=True, slots=True)
class History:
    """The history of one caller. ``requests`` are the latest requests of the day, newest first.

    ``leaks`` are charts, one per measure, of the total leak since the start of the day beside the band of honest callers;
    ``rarity`` are charts, one per measure, of the p-values counted in the account.
    """

    hash: str
    account: Account | None
    evidence: SuspicionEvidence | None
    traffic: TrafficView
    leaks: tuple[DashboardChart, ...]
    rarity: tuple[DashboardChart, ...]
    requests: tuple[HistoryRow, ...]


def history(hashed: str, account: Account | None, day: DayLog, tariff: ConformalTariff | None) -> History:
    """The history of the caller with this hash in the log, and this account, if the ledger has one."""
    index = day.hashes.index(hashed) if hashed in day.hashes else -1
    log = day.select(day.callers == index)
    current = account if account and tariff and account.tariff == tariff.identity else None
    return History(
        hash=hashed,
        account=account,
        evidence=evidence_of(account, tariff) if account and tariff else None,
        traffic=traffic_view(log),
        leaks=_leaks(log, tariff) if tariff and len(log.leaks) else (),
        rarity=_rarity(current, tariff) if tariff and current else (),
        requests=_latest_requests(log),
    )


def _leaks(log: DayLog, tariff: ConformalTariff) -> tuple[DashboardChart, ...]:
    """Running totals of leaks, at 300 evenly spaced rows or fewer."""
    rows = len(log.leaks)
    indices = np.unique(np.linspace(0, rows - 1, min(rows, _CHART_POINTS)).round().astype(np.int64))
    totals = np.cumsum(log.leaks, axis=0)[indices].T
    numbers = (indices + 1).astype(np.float64)
    mean, low, high = suspicion_level(tariff, numbers)
    charts = []
    for index, measure in enumerate(tariff.measures):
        series = (
            Series("this caller", finite_values(totals[index]), "thief", "line"),
            Series("honest, upper end", finite_values(high[index]), "honest", "dashes"),
            Series("honest, mean", finite_values(mean[index]), "honest", "line"),
            Series("honest, lower end", finite_values(low[index]), "honest", "dashes"),
        )
        chart = DashboardChart(
            f"Total leak of the caller's rows: {measure}",
            "rows of the day",
            f"{measure}, total",
            tuple(numbers.tolist()),
            series,
            x_kind="count",
            y_kind="number",
            band=(1, 3),
        )
        charts.append(chart)
    return tuple(charts)


def _rarity(account: Account, tariff: ConformalTariff) -> tuple[DashboardChart, ...]:
    """The account's histogram of p-values, relative to the calibration's."""
    edges = np.array(tariff.suspicion.edges)
    ends = log_axis(tariff.suspicion.edges)
    charts = []
    for measure, counts in zip(tariff.measures, account.counts, strict=True):
        rows = sum(counts)
        densities = (
            np.array(counts) / max(rows, 1e-300) / np.diff(edges) if rows >= _MIN_ROWS else np.full(len(counts), np.nan)
        )
        series = (
            Series("this caller", finite_values([*densities, densities[-1]]), "thief", "edge"),
            Series("calibration", (1.0,) * len(edges), "soft", "dashes"),
        )
        chart = DashboardChart(
            f"p-values of the caller's rows: {measure}",
            "p-value: share of honest rows that leak as much",
            "relative density",
            ends,
            series,
            x_kind="share",
            y_kind="units",
            x_log=True,
        )
        charts.append(chart)
    return tuple(charts)


def _latest_requests(log: DayLog) -> tuple[HistoryRow, ...]:
    lines = np.arange(len(log.at))[-_MAX_REQUESTS:][::-1]
    modes = (*MODES, "other")
    found = []
    for line in lines.tolist():
        rarest = log.rarest[log.row_lines == line]
        row = HistoryRow(
            at=float(log.at[line]),
            rows=int(log.rows[line]),
            rarest=float(rarest.min()) if len(rarest) else None,
            work=float(log.work[line, 0]),
            surcharge=float(log.work[line, 3]),
            mode=modes[log.modes[line]],
        )
        found.append(row)
    return tuple(found)
