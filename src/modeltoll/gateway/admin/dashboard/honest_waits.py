"""Waits of honest callers, beside what the calibration expects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.gateway.admin.dashboard.charts import DashboardChart, Series, finite_values
from modeltoll.gateway.admin.dashboard.traffic import TimeSlots

if TYPE_CHECKING:
    from modeltoll.gateway.admin.dashboard.log_arrays import DayLog
    from modeltoll.pricing.conformal_tariff import ConformalTariff
    from modeltoll.records import Assessment, Floats

__all__ = ["SHARES", "HonestWaits", "WaitLine", "honest_waits", "quantile", "row_waits"]

SHARES = (0.5, 0.95, 0.99, 0.999)


@dataclass(frozen=True, slots=True)
class WaitLine:
    """The wait that this share of rows does not exceed, calibrated and observed, in reference seconds.

    ``observed`` is None without rows.
    """

    share: float
    calibrated: float
    observed: float | None

    def exceeds(self, tolerated_units: float) -> bool:
        """Whether the observed wait is longer than tolerated traffic would have."""
        return self.observed is not None and self.observed > tolerated_units * self.calibrated


@dataclass(frozen=True, slots=True)
class HonestWaits:
    """Waits of the ``rows`` of callers who pay and were not suspected, without new-account tolls.

    ``mean_units`` is their mean price in units, None without rows; at most 1 is expected of calibrated traffic, and at
    most ``tolerated_units`` of tolerated traffic. ``new_account_seconds`` are their new-account tolls, in reference seconds.
    """

    rows: int
    unit_seconds: float
    mean_units: float | None
    tolerated_units: float
    lines: tuple[WaitLine, ...]
    new_account_seconds: float
    chart: DashboardChart

    @property
    def mean_seconds(self) -> float | None:
        """The mean wait in reference seconds; None without rows."""
        return None if self.mean_units is None else self.mean_units * self.unit_seconds

    @property
    def within_tolerance(self) -> bool:
        """Whether the mean price is at most ``tolerated_units``."""
        return self.mean_units is None or self.mean_units <= self.tolerated_units


def quantile(values: Floats, share: float) -> float | None:
    """The smallest value that this share of the values does not exceed; None without values."""
    return float(np.quantile(values, share, method="inverted_cdf")) if len(values) else None


def _calibrated_wait(tariff: ConformalTariff, share: float) -> float:
    """The wait in the calibration's report on held-out rows; without a report, the price at that quantile.

    That is the price of a row at p = 1 - share, since p-values of honest rows are uniform.
    """
    report = tariff.calibration.report
    report_waits = dict(report.waits) if report else {}
    return report_waits.get(share, tariff.unit_seconds * tariff.factor_at(1.0 - share))


def row_waits(day: DayLog, tariff: ConformalTariff, assessment: Assessment) -> Floats:
    """The work of each row, (rows,): the work of its request, divided in proportion to the rows' prices."""
    prices = assessment.factors * tariff.multipliers(assessment, day.work[day.row_lines, 3])
    request_prices = np.bincount(day.row_lines, prices, len(day.at))
    waits: Floats = day.rows_seconds[day.row_lines] * prices / request_prices[day.row_lines]
    return waits


def honest_waits(day: DayLog, tariff: ConformalTariff, assessment: Assessment) -> HonestWaits:
    """The waits in the day's log; ``assessment`` is the tariff's assessment of the day's rows."""
    unit, honest = tariff.calibration.unit_seconds, day.rows_of(day.honest)
    waits, at = row_waits(day, tariff, assessment)[honest], day.at[day.row_lines][honest]
    slots = TimeSlots.of(day)
    with np.errstate(invalid="ignore"):
        means = slots.sums(at, waits) / slots.sums(at) / unit
    tolerated = 1.0 + tariff.suspicion.terms.rho
    slot_count = len(slots.starts)
    chart = DashboardChart(
        "Mean price of an honest row, by half hour",
        "time, UTC",
        "units per row",
        slots.x,
        (
            Series("observed", finite_values(means), "honest", "line"),
            Series("calibrated, at most", (1.0,) * slot_count, "ink", "dashes"),
            Series("tolerated", (tolerated,) * slot_count, "thief", "dashes"),
        ),
        y_kind="units",
    )
    return HonestWaits(
        rows=len(waits),
        unit_seconds=unit,
        mean_units=float(waits.mean() / unit) if len(waits) else None,
        tolerated_units=tolerated,
        lines=tuple(WaitLine(share, _calibrated_wait(tariff, share), quantile(waits, share)) for share in SHARES),
        new_account_seconds=float(day.work[day.honest, 2].sum()),
        chart=chart,
    )
