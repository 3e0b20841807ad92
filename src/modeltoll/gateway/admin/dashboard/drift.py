"""Drift of honest traffic against the rows that the tariff was calibrated on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.gateway.admin.dashboard.charts import DashboardChart, Series, finite_values, log_axis

if TYPE_CHECKING:
    from modeltoll.gateway.admin.dashboard.log_arrays import DayLog
    from modeltoll.pricing.conformal_tariff import ConformalTariff
    from modeltoll.pricing.drift import DriftReading
    from modeltoll.records import Assessment, Floats

__all__ = ["DriftView", "drift_view"]


@dataclass(frozen=True, slots=True)
class DriftView:
    """Drift of the traffic of callers who are not suspected.

    ``rows`` (decayed by age), ``mean_units``, ``evidence`` and ``drifted`` are from the drift monitor of this process,
    since its start. ``evidence`` and ``threshold`` are decimal logarithms. The charts, one per measure, show the density of
    p-values in each bin relative to the calibration's.
    """

    rows: float
    mean_units: float
    tolerated_units: float
    evidence: float
    threshold: float
    drifted: bool
    charts: tuple[DashboardChart, ...]


def drift_view(day: DayLog, tariff: ConformalTariff, assessment: Assessment, reading: DriftReading) -> DriftView:
    """The monitor's figures, beside the ``assessment`` of the rows in the day's log, which is of all gateways."""
    edges = np.array(tariff.suspicion.edges)
    x_edges = log_axis(tariff.suspicion.edges)
    widths = np.diff(edges)
    monitored = reading.shares if reading.rows else np.full(tariff.shape, np.nan)
    logged = _logged_shares(day, tariff, assessment)
    tolerated = (1.0 + tariff.suspicion.terms.rho,) * len(edges)
    charts = []
    for index, measure in enumerate(tariff.measures):
        series = [
            Series("this process, since its start", _step_values(monitored[index] / widths), "ink", "edge"),
            Series("log of the last day", _step_values(logged[index] / widths), "honest", "edge"),
            Series("calibration", (1.0,) * len(edges), "soft", "dashes"),
            Series("tolerated", tolerated, "thief", "dashes"),
        ]
        chart = DashboardChart(
            f"p-values of honest rows: {measure}",
            "p-value: share of honest rows that leak as much",
            "relative density",
            x_edges,
            tuple(series),
            x_kind="share",
            y_kind="units",
            x_log=True,
        )
        charts.append(chart)
    log_10 = np.log(10.0)
    return DriftView(
        reading.rows,
        reading.mean_units,
        reading.tolerated_units,
        float(reading.log_evidence / log_10),
        float(reading.log_threshold / log_10),
        reading.drifted,
        tuple(charts),
    )


def _step_values(densities: Floats) -> tuple[float | None, ...]:
    """Densities at the bins' left edges; the last is repeated at the right end, so that its step is drawn."""
    return finite_values([*densities, densities[-1]])


def _logged_shares(day: DayLog, tariff: ConformalTariff, assessment: Assessment) -> Floats:
    """The share of the log's honest rows in each bin, (measures, bins); NaN without rows."""
    bins = assessment.bins[day.rows_of(day.honest)]
    counts = np.array([np.bincount(column, minlength=tariff.shape[1]) for column in bins.T], np.float64)
    return counts / len(bins) if len(bins) else np.full(tariff.shape, np.nan)
