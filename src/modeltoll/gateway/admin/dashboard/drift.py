"""Whether honest traffic still looks like the rows that the tariff was made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.gateway.admin.dashboard.charts import Chart, Series, logarithmic, points

if TYPE_CHECKING:
    from modeltoll.gateway.admin.dashboard.log_arrays import DayLog
    from modeltoll.pricing.conformal import ConformalTariff
    from modeltoll.pricing.drift import DriftReading
    from modeltoll.records import Assessment, Floats

__all__ = ["DriftView", "drift_view"]


@dataclass(frozen=True, slots=True)
class DriftView:
    """How the traffic of callers not under suspicion stands.

    ``rows``, ``mean_units``, ``evidence`` and ``drifted`` are the watch's, of this gateway process since it started, faded;
    the evidence and its ``threshold`` are powers of ten. The charts, one per measure, show how often p-values fall
    into each bin against what the calibration says, 1 being as often.
    """

    rows: float
    mean_units: float
    tolerated_units: float
    evidence: float
    threshold: float
    drifted: bool
    charts: tuple[Chart, ...]


def drift_view(day: DayLog, tariff: ConformalTariff, assessment: Assessment, reading: DriftReading) -> DriftView:
    """What the watch has read, and beside it the ``assessment`` of the rows in the day's log, of all gateways."""
    edges = np.array(tariff.suspicion.edges)
    ends = logarithmic(tariff.suspicion.edges)
    widths = np.diff(edges)
    watched = reading.shares if reading.rows else np.full(tariff.shape, np.nan)
    logged = _logged(day, tariff, assessment)
    level = (1.0 + tariff.suspicion.terms.rho,) * len(edges)
    charts = []
    for place, measure in enumerate(tariff.measures):
        series = [
            Series("this gateway, since it started", _edged(watched[place] / widths), "ink", "edge"),
            Series("the log of the day", _edged(logged[place] / widths), "honest", "edge"),
            Series("as calibrated", (1.0,) * len(edges), "soft", "dashes"),
            Series("tolerated", level, "thief", "dashes"),
        ]
        chart = Chart(
            f"How often leaks are so rare: {measure}",
            "share of honest rows that leak as much",
            "times as calibrated",
            ends,
            tuple(series),
            x_kind="share",
            y_kind="units",
            x_log=True,
        )
        charts.append(chart)
    ten = np.log(10.0)
    return DriftView(
        reading.rows,
        reading.mean_units,
        reading.tolerated_units,
        float(reading.log_evidence / ten),
        float(reading.log_threshold / ten),
        reading.drifted,
        tuple(charts),
    )


def _edged(densities: Floats) -> tuple[float | None, ...]:
    """A bin's density at its left edge; the last one is said again at the end, so that a step can be drawn to it."""
    return points([*densities, densities[-1]])


def _logged(day: DayLog, tariff: ConformalTariff, assessment: Assessment) -> Floats:
    """The share of the honest rows of the log in each bin, (measures, bins); not a number without any."""
    bins = assessment.bins[day.rows_of(day.honest)]
    counts = np.array([np.bincount(column, minlength=tariff.shape[1]) for column in bins.T], np.float64)
    return counts / len(bins) if len(bins) else np.full(tariff.shape, np.nan)
