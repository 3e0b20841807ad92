"""The history of one caller: account, requests and leaks of the day."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.gateway.admin.dashboard.callers import suspicion_level
from modeltoll.gateway.admin.dashboard.charts import DashboardChart, Series, finite_values
from modeltoll.gateway.admin.dashboard.drift import densities, density_chart, step_values
from modeltoll.gateway.admin.dashboard.log_arrays import MODES
from modeltoll.gateway.admin.dashboard.suspected_since import suspected_since
from modeltoll.gateway.admin.dashboard.suspects import evidence_of
from modeltoll.gateway.admin.dashboard.traffic import TrafficView, traffic_view
from modeltoll.pricing.explain import explain_caller
from modeltoll.settlement_records import Standing

if TYPE_CHECKING:
    from modeltoll.gateway.admin.dashboard.log_arrays import DayLog
    from modeltoll.gateway.admin.dashboard.suspected_since import SuspectedSince
    from modeltoll.gateway.admin.dashboard.suspects import SuspicionEvidence
    from modeltoll.pricing.conformal_tariff import ConformalTariff
    from modeltoll.pricing.explanations import CallerExplanation
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
    ``rarity`` are charts, one per coordinate of the cells, of the p-values counted in the account. ``explanation``: what the
    evidence consists of; None where the account is of another tariff. ``since``: since when it is suspected, by the log.
    """

    hash: str
    account: Account | None
    evidence: SuspicionEvidence | None
    explanation: CallerExplanation | None
    since: SuspectedSince | None
    traffic: TrafficView
    leaks: tuple[DashboardChart, ...]
    rarity: tuple[DashboardChart, ...]
    requests: tuple[HistoryRow, ...]


def history(
    hashed: str, account: Account | None, day: DayLog, tariff: ConformalTariff | None, standing: Standing | None = None
) -> History:
    """The history of the caller with this hash in the log, and this account, if the ledger has one.

    ``standing``: what the caller has paid, where that is known.
    """
    index = day.hashes.index(hashed) if hashed in day.hashes else -1
    log = day.select(day.callers == index)
    if tariff is not None:
        log = log.priced(tariff, tariff.assess(log.leak_record, np.random.default_rng(0)))
    current = account if account and tariff and account.tariff == tariff.identity else None
    explanation = explain_caller(tariff, current, standing or Standing(), hashed) if tariff and current else None
    return History(
        hash=hashed,
        account=account,
        evidence=evidence_of(account, tariff, hashed) if account and tariff else None,
        explanation=explanation,
        since=suspected_since(day).get(hashed),
        traffic=traffic_view(log),
        leaks=_leaks(log, tariff) if tariff and len(log.leaks) else (),
        rarity=_rarity(explanation, current, tariff) if tariff and current and explanation else (),
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


def _rarity(explanation: CallerExplanation, account: Account, tariff: ConformalTariff) -> tuple[DashboardChart, ...]:
    """The p-values of the account's rows, relative to the calibration's, beside those of the honest law that fits best."""
    counts = np.array(account.evidence.counts, np.float64)
    enough = counts.sum() >= _MIN_ROWS
    seen = densities(tariff, counts / counts.sum() if enough else np.full(len(counts), np.nan))
    calibrated = densities(tariff, tariff.suspicion.laws.laws[0])
    charts = []
    for index, (measure, edges) in enumerate(zip(explanation.coordinates, tariff.cells.edges, strict=True)):
        series = (
            Series("this caller", step_values(seen[index]), "thief", "edge"),
            Series("calibration", step_values(calibrated[index]), "soft", "dashes"),
        )
        charts.append(density_chart(f"p-values of the caller's rows: {measure}", edges, series))
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
