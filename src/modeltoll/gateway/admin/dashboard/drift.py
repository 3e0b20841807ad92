"""Drift of the traffic, suspects included, against the rows that the tariff was calibrated on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.gateway.admin.dashboard.charts import DashboardChart, Series, finite_values, log_axis

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modeltoll.gateway.admin.dashboard.log_arrays import DayLog
    from modeltoll.pricing.conformal_tariff import ConformalTariff
    from modeltoll.pricing.drift import DriftReading
    from modeltoll.records import Assessment, Bools, Floats

__all__ = ["DriftView", "densities", "density_chart", "drift_view", "step_values"]


@dataclass(frozen=True, slots=True)
class DriftView:
    """Drift of the traffic of all callers who pay, those under suspicion included.

    ``rows`` (decayed by age), ``mean_units``, ``evidence`` and ``drifted`` are from the drift monitor of this process,
    since its start. ``evidence`` and ``threshold`` are decimal logarithms. The charts, one per coordinate of the cells, show
    the density of p-values in each bin relative to the calibration's.
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
    nothing = np.full(tariff.cell_count, np.nan)
    monitored = densities(tariff, reading.shares if reading.rows else nothing)
    logged = densities(tariff, _logged_shares(day.rows_of(~day.exempt), tariff, assessment))
    unsuspected = densities(tariff, _logged_shares(day.rows_of(day.unsuspected), tariff, assessment))
    tolerated = 1.0 + tariff.suspicion.terms.rho
    charts = []
    for index, (measure, edges) in enumerate(zip(tariff.calibration.coordinates, tariff.cells.edges, strict=True)):
        series = [
            Series("this process, since its start", step_values(monitored[index]), "ink", "edge"),
            Series("log of the last day, all who pay", step_values(logged[index]), "thief", "edge"),
            Series("those not suspected", step_values(unsuspected[index]), "honest", "edge"),
            Series("calibration", (1.0,) * len(edges), "soft", "dashes"),
            Series("tolerated", (tolerated,) * len(edges), "thief", "dashes"),
        ]
        charts.append(density_chart(f"p-values of all rows: {measure}", edges, tuple(series)))
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


def density_chart(title: str, edges: Sequence[float], series: tuple[Series, ...]) -> DashboardChart:
    """A chart of densities of p-values in bins, relative to the calibration's."""
    return DashboardChart(
        title,
        "p-value: share of honest rows that leak as much",
        "relative density",
        log_axis(edges),
        series,
        x_kind="share",
        y_kind="units",
        x_log=True,
    )


def densities(tariff: ConformalTariff, shares: Floats) -> list[Floats]:
    """For each coordinate the density (bins,) of p-values, from the shares (cells,) of rows; 1 where they are uniform."""
    joint = shares.reshape(tariff.cells.shape)
    found = []
    for axis, edges in enumerate(tariff.cells.edges):
        others = tuple(other for other in range(joint.ndim) if other != axis)
        found.append(joint.sum(axis=others) / np.diff(edges))
    return found


def step_values(values: Floats) -> tuple[float | None, ...]:
    """Densities at the bins' left edges; the last is repeated at the right end, so that its step is drawn."""
    return finite_values([*values, values[-1]])


def _logged_shares(rows: Bools, tariff: ConformalTariff, assessment: Assessment) -> Floats:
    """The share of these rows of the log in each cell, (cells,); NaN without rows."""
    cells = assessment.cells[rows]
    counts = np.bincount(cells, minlength=tariff.cell_count).astype(np.float64)
    return counts / len(cells) if len(cells) else np.full(tariff.cell_count, np.nan)
