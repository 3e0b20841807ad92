"""Waits of all callers who pay, and of those who were not suspected, beside what the calibration expects."""

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

    ``observed``: of callers who were not suspected; ``everyone``: of all who pay. Both are None without rows.
    """

    share: float
    calibrated: float
    observed: float | None
    everyone: float | None

    def exceeds(self, wait: float | None, tolerated_units: float) -> bool:
        """Whether a wait is longer than tolerated traffic would have."""
        return wait is not None and wait > tolerated_units * self.calibrated


@dataclass(frozen=True, slots=True)
class HonestWaits:
    """Waits of the ``all_rows`` of callers who pay, and of ``rows`` of them whose callers were not suspected at the time.

    Without new-account tolls. ``mean_units`` and ``all_mean_units`` are mean prices in units, None without rows; at most 1 is
    expected of calibrated traffic, and at most ``tolerated_units`` of tolerated traffic. ``new_account_seconds`` are the
    new-account tolls of all who pay, in reference seconds. ``unpriced_requests``: those logged before the first tariff,
    priced with the present one, without suspicion.
    """

    rows: int
    all_rows: int
    unit_seconds: float
    mean_units: float | None
    all_mean_units: float | None
    tolerated_units: float
    lines: tuple[WaitLine, ...]
    new_account_seconds: float
    unpriced_requests: int
    chart: DashboardChart

    @property
    def mean_seconds(self) -> float | None:
        """The mean wait of the rows that were not suspected, in reference seconds; None without rows."""
        return None if self.mean_units is None else self.mean_units * self.unit_seconds

    @property
    def all_mean_seconds(self) -> float | None:
        """The mean wait of all rows in reference seconds; None without rows."""
        return None if self.all_mean_units is None else self.all_mean_units * self.unit_seconds

    def tolerates(self, mean_units: float | None) -> bool:
        """Whether a mean price is at most ``tolerated_units``."""
        return mean_units is None or mean_units <= self.tolerated_units


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
    """The work of each row, (rows,): the work of its request, divided in proportion to the rows' prices.

    Of a suspected caller's rows, those with a low clean p bear the surcharge; which cells spoke against it is not logged.
    """
    nowhere = np.zeros(len(assessment.factors), np.bool_)
    prices = tariff.row_units(assessment, day.work[day.row_lines, 3], nowhere, clean=day.clean)
    request_prices = np.bincount(day.row_lines, prices, len(day.at))
    waits: Floats = day.rows_seconds[day.row_lines] * prices / request_prices[day.row_lines]
    return waits


def honest_waits(day: DayLog, tariff: ConformalTariff, assessment: Assessment) -> HonestWaits:
    """The waits in the day's log, as ``DayLog.priced`` returns it; ``assessment``: the tariff's, of the day's rows."""
    unit, at = tariff.calibration.unit_seconds, day.at[day.row_lines]
    paying, unsuspected = day.rows_of(~day.exempt), day.rows_of(day.unsuspected)
    waits = row_waits(day, tariff, assessment)
    observed, everyone = waits[unsuspected], waits[paying]
    slots = TimeSlots.of(day)
    tolerated = 1.0 + tariff.suspicion.terms.rho
    slot_count = len(slots.starts)
    chart = DashboardChart(
        "Mean price of a row, by half hour",
        "time, UTC",
        "units per row",
        slots.x,
        (
            Series("not suspected", _slot_means(slots, at[unsuspected], observed / unit), "honest", "line"),
            Series("all who pay", _slot_means(slots, at[paying], everyone / unit), "thief", "line"),
            Series("calibrated, at most", (1.0,) * slot_count, "ink", "dashes"),
            Series("tolerated", (tolerated,) * slot_count, "soft", "dashes"),
        ),
        y_kind="units",
        y_log=True,
    )
    lines = [
        WaitLine(share, _calibrated_wait(tariff, share), quantile(observed, share), quantile(everyone, share))
        for share in SHARES
    ]
    return HonestWaits(
        rows=len(observed),
        all_rows=len(everyone),
        unit_seconds=unit,
        mean_units=float(observed.mean() / unit) if len(observed) else None,
        all_mean_units=float(everyone.mean() / unit) if len(everyone) else None,
        tolerated_units=tolerated,
        lines=tuple(lines),
        new_account_seconds=float(day.work[~day.exempt, 2].sum()),
        unpriced_requests=int(day.priced_here.sum()),
        chart=chart,
    )


def _slot_means(slots: TimeSlots, at: Floats, prices: Floats) -> tuple[float | None, ...]:
    with np.errstate(invalid="ignore"):
        return finite_values(slots.sums(at, prices) / slots.sums(at))
