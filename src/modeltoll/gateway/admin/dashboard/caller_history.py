"""One caller's history."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.gateway.admin.dashboard.callers import evidence_of, suspicion_level
from modeltoll.gateway.admin.dashboard.charts import Chart, Series, logarithmic, points
from modeltoll.gateway.admin.dashboard.log_arrays import MODES
from modeltoll.gateway.admin.dashboard.traffic import TrafficView, traffic_view

if TYPE_CHECKING:
    from modeltoll.gateway.admin.dashboard.callers import SuspicionEvidence
    from modeltoll.gateway.admin.dashboard.log_arrays import DayLog
    from modeltoll.pricing.conformal import ConformalTariff
    from modeltoll.records import Account

__all__ = ["History", "HistoryRow", "history"]

_POINTS = 300  # of a chart of leaks
_VISITS = 25
_FEW = 5.0  # rows from which on a histogram says something


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """One line of the log. ``rarest`` is the smallest p of its rows, None where its measures are not the tariff's."""

    at: float
    rows: int
    rarest: float | None
    work: float
    surcharge: float
    mode: str


@dataclass(frozen=True, slots=True)
class History:
    """What is known of one caller: his account, the day's traffic, the latest visits of the day, the newest first.

    ``leaks`` are charts, one per measure, of what his rows have leaked since the day began, beside the band in which honest
    callers' leaks lie; ``rarity`` of how rare they are.
    """

    hash: str
    account: Account | None
    evidence: SuspicionEvidence | None
    traffic: TrafficView
    leaks: tuple[Chart, ...]
    rarity: tuple[Chart, ...]
    visits: tuple[HistoryRow, ...]


def history(hashed: str, account: Account | None, day: DayLog, tariff: ConformalTariff | None) -> History:
    """The caller of that hash, and of that account, if he has one."""
    place = day.names.index(hashed) if hashed in day.names else -1
    his = day.only(day.callers == place)
    current = account if account and tariff and account.tariff == tariff.identity else None
    return History(
        hash=hashed,
        account=account,
        evidence=evidence_of(account, tariff) if account and tariff else None,
        traffic=traffic_view(his),
        leaks=_leaks(his, tariff) if tariff and len(his.leaks) else (),
        rarity=_rarity(current, tariff) if tariff and current else (),
        visits=_visits(his),
    )


def _leaks(his: DayLog, tariff: ConformalTariff) -> tuple[Chart, ...]:
    """Running totals; of many rows, so many evenly placed ones."""
    rows = len(his.leaks)
    places = np.unique(np.linspace(0, rows - 1, min(rows, _POINTS)).round().astype(np.int64))
    totals = np.cumsum(his.leaks, axis=0)[places].T
    numbers = (places + 1).astype(np.float64)
    mean, low, high = suspicion_level(tariff, numbers)
    charts = []
    for place, measure in enumerate(tariff.measures):
        series = (
            Series("this caller", points(totals[place]), "thief", "line"),
            Series("honest, at most", points(high[place]), "honest", "dashes"),
            Series("honest, on average", points(mean[place]), "honest", "line"),
            Series("honest, at least", points(low[place]), "honest", "dashes"),
        )
        chart = Chart(
            f"What his rows have leaked: {measure}",
            "rows of the day",
            f"{measure}, in all",
            tuple(numbers.tolist()),
            series,
            x_kind="count",
            y_kind="number",
            band=(1, 3),
        )
        charts.append(chart)
    return tuple(charts)


def _rarity(account: Account, tariff: ConformalTariff) -> tuple[Chart, ...]:
    """The account's histogram of p-values against the calibration's."""
    edges = np.array(tariff.suspicion.edges)
    ends = logarithmic(tariff.suspicion.edges)
    charts = []
    for measure, counts in zip(tariff.measures, account.counts, strict=True):
        rows = sum(counts)
        densities = (
            np.array(counts) / max(rows, 1e-300) / np.diff(edges) if rows >= _FEW else np.full(len(counts), np.nan)
        )
        series = (
            Series("this caller", points([*densities, densities[-1]]), "thief", "edge"),
            Series("as calibrated", (1.0,) * len(edges), "soft", "dashes"),
        )
        chart = Chart(
            f"How rare his rows are: {measure}",
            "share of honest rows that leak as much",
            "times as calibrated",
            ends,
            series,
            x_kind="share",
            y_kind="units",
            x_log=True,
        )
        charts.append(chart)
    return tuple(charts)


def _visits(his: DayLog) -> tuple[HistoryRow, ...]:
    lines = np.arange(len(his.at))[-_VISITS:][::-1]
    modes = (*MODES, "other")
    found = []
    for line in lines.tolist():
        rarest = his.rarest[his.row_lines == line]
        visit = HistoryRow(
            at=float(his.at[line]),
            rows=int(his.rows[line]),
            rarest=float(rarest.min()) if len(rarest) else None,
            work=float(his.work[line, 0]),
            surcharge=float(his.work[line, 3]),
            mode=modes[his.modes[line]],
        )
        found.append(visit)
    return tuple(found)
