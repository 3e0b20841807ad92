"""What honest callers really waited, against what they were promised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.gateway.admin.dashboard.charts import Chart, Series, points
from modeltoll.gateway.admin.dashboard.traffic import TimeSlots

if TYPE_CHECKING:
    from modeltoll.gateway.admin.dashboard.log_arrays import DayLog
    from modeltoll.pricing.conformal import ConformalTariff
    from modeltoll.records import Assessment, Floats

__all__ = ["SHARES", "HonestWaits", "WaitLine", "honest_waits", "quantile", "row_waits"]

SHARES = (0.5, 0.95, 0.99, 0.999)


@dataclass(frozen=True, slots=True)
class WaitLine:
    """Such a share of rows waits no longer: as promised, and as seen; reference seconds, None where nobody knows."""

    share: float
    promised: float
    seen: float | None

    def broken(self, tolerated_units: float) -> bool:
        """Whether rows wait longer than even tolerated traffic would."""
        return self.seen is not None and self.seen > tolerated_units * self.promised


@dataclass(frozen=True, slots=True)
class HonestWaits:
    """Waits of the ``rows`` of callers who pay and were not under suspicion, without entry tolls.

    ``mean_units`` is their mean price in units, None without rows; at most 1 is promised, and rows within the tolerance
    can reach ``tolerated_units``. ``entry_seconds`` are the entry tolls that such callers were asked for.
    """

    rows: int
    unit_seconds: float
    mean_units: float | None
    tolerated_units: float
    lines: tuple[WaitLine, ...]
    entry_seconds: float
    chart: Chart

    @property
    def mean_seconds(self) -> float | None:
        """The mean wait."""
        return None if self.mean_units is None else self.mean_units * self.unit_seconds

    @property
    def kept(self) -> bool:
        """Whether the mean is within what was promised, or what is tolerated."""
        return self.mean_units is None or self.mean_units <= self.tolerated_units


def quantile(values: Floats, share: float) -> float | None:
    """The smallest value that such a share of all does not exceed; None without values."""
    return float(np.quantile(values, share, method="inverted_cdf")) if len(values) else None


def _promised(tariff: ConformalTariff, share: float) -> float:
    """As the calibration's report says of rows that were kept back; without a report, by the price itself.

    A row's price is (1 - g) p^(-g), and p lies below a share of 1 - share of rows.
    """
    calibration = tariff.calibration
    unit, g = calibration.unit_seconds, calibration.g
    known = dict(calibration.report.waits) if calibration.report else {}
    return known.get(share, unit * (1.0 - g) * float((1.0 - share) ** -g))


def row_waits(day: DayLog, tariff: ConformalTariff, assessment: Assessment) -> Floats:
    """Each row's share, by its price, of the work that its request was asked for, (rows,)."""
    prices = assessment.factors * tariff.multipliers(assessment, day.work[day.row_lines, 3])
    of_request = np.bincount(day.row_lines, prices, len(day.at))
    each: Floats = day.rows_seconds[day.row_lines] * prices / of_request[day.row_lines]
    return each


def honest_waits(day: DayLog, tariff: ConformalTariff, assessment: Assessment) -> HonestWaits:
    """Of lines whose measures are the tariff's; ``assessment`` is its reading of the day's rows."""
    unit, honest = tariff.calibration.unit_seconds, day.rows_of(day.honest)
    each, at = row_waits(day, tariff, assessment)[honest], day.at[day.row_lines][honest]
    slots = TimeSlots.of(day)
    with np.errstate(invalid="ignore"):
        means = slots.sums(at, each) / slots.sums(at) / unit
    tolerated = 1.0 + tariff.suspicion.terms.rho
    level = len(slots.starts)
    chart = Chart(
        "Mean price of an honest row, by half hour",
        "time, UTC",
        "units a row",
        slots.x,
        (
            Series("seen", points(means), "honest", "line"),
            Series("promised, at most", (1.0,) * level, "ink", "dashes"),
            Series("tolerated", (tolerated,) * level, "thief", "dashes"),
        ),
        y_kind="units",
    )
    return HonestWaits(
        rows=len(each),
        unit_seconds=unit,
        mean_units=float(each.mean() / unit) if len(each) else None,
        tolerated_units=tolerated,
        lines=tuple(WaitLine(share, _promised(tariff, share), quantile(each, share)) for share in SHARES),
        entry_seconds=float(day.work[day.honest, 2].sum()),
        chart=chart,
    )
