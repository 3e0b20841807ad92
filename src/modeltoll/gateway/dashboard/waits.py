"""What honest callers really waited, against what they were promised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.gateway.dashboard.charts import Chart, Series, points
from modeltoll.gateway.dashboard.traffic import Slots

if TYPE_CHECKING:
    from modeltoll.gateway.dashboard.day import Day
    from modeltoll.pricing.conformal import ConformalTariff
    from modeltoll.records import Floats

__all__ = ["SHARES", "WaitLine", "Waits", "quantile", "waits"]

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
class Waits:
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


def quantile(values: Floats, share: float, weights: Floats | None = None) -> float | None:
    """The smallest value that such a share of all (by ``weights``) does not exceed; None without values."""
    if not len(values):
        return None
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(np.ones(len(values)) if weights is None else weights[order])
    place = int(np.searchsorted(reached, share * reached[-1] * (1.0 - 1e-12)))
    return float(values[order][min(place, len(values) - 1)])


def _promised(tariff: ConformalTariff, share: float) -> float:
    """As the calibration's report says of rows that were kept back; without a report, by the price itself.

    A row's price is (1 - g) p^(-g), and p lies below a share of 1 - share of rows.
    """
    calibration = tariff.calibration
    unit, g = calibration.unit_seconds, calibration.g
    known = dict(calibration.report.waits) if calibration.report else {}
    return known.get(share, unit * (1.0 - g) * float((1.0 - share) ** -g))


def waits(day: Day, tariff: ConformalTariff) -> Waits:
    """Each row of a batch counts as having waited the batch's mean."""
    unit = tariff.calibration.unit_seconds
    honest = day.only(day.honest & (day.rows > 0))
    each, rows = honest.rows_seconds / honest.rows, honest.rows.astype(np.float64)
    slots = Slots.of(day)
    asked = slots.sums(honest.at, rows)
    with np.errstate(invalid="ignore"):
        means = slots.sums(honest.at, honest.rows_seconds) / asked / unit
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
    return Waits(
        rows=int(rows.sum()),
        unit_seconds=unit,
        mean_units=float(honest.rows_seconds.sum() / rows.sum() / unit) if len(rows) else None,
        tolerated_units=tolerated,
        lines=tuple(WaitLine(share, _promised(tariff, share), quantile(each, share, rows)) for share in SHARES),
        entry_seconds=float(honest.work[:, 2].sum()),
        chart=chart,
    )
