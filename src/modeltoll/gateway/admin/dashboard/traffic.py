"""Requests and work of the day, by half hour."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.gateway.admin.dashboard.charts import DashboardChart, Series, finite_values

if TYPE_CHECKING:
    from modeltoll.gateway.admin.dashboard.log_arrays import DayLog
    from modeltoll.records import Floats, Integers

__all__ = ["SLOT_SECONDS", "TimeSlots", "TrafficView", "traffic_view"]

SLOT_SECONDS = 1800.0  # seconds


@dataclass(frozen=True, slots=True, eq=False)
class TimeSlots:
    """The half hours of a day; ``starts`` (slots,) are in seconds since the epoch."""

    starts: Floats

    @classmethod
    def of(cls, day: DayLog) -> TimeSlots:
        first, last = math.floor(day.since / SLOT_SECONDS), math.floor(day.until / SLOT_SECONDS)
        return cls(np.arange(first, last + 1, dtype=np.float64) * SLOT_SECONDS)

    @property
    def x(self) -> tuple[float, ...]:
        return tuple(self.starts.tolist())

    def sums(self, at: Floats, weights: Floats | Integers | None = None) -> Floats:
        """The sum of ``weights``, or the number of times ``at``, in each slot, (slots,)."""
        indices = ((at - self.starts[0]) // SLOT_SECONDS).astype(np.int64)
        sums: Floats = np.bincount(indices, weights, minlength=len(self.starts)).astype(np.float64)
        return sums


@dataclass(frozen=True, slots=True)
class TrafficView:
    """Totals of a day, with work in reference seconds; ``suspected_`` totals are of callers suspected at the time.

    ``shadow`` and ``exempt`` are the numbers of requests in shadow mode and of exempt callers, which were not charged.
    """

    requests: int
    rows: int
    work: float
    suspected_requests: int
    suspected_work: float
    exempt: int
    shadow: int
    charts: tuple[DashboardChart, ...]


def traffic_view(day: DayLog) -> TrafficView:
    """Totals and charts of the day's requests and work."""
    slots, suspected, seconds = TimeSlots.of(day), day.suspected, day.seconds
    unsuspected = ~suspected
    return TrafficView(
        requests=len(day.at),
        rows=int(day.rows.sum()),
        work=float(seconds.sum()),
        suspected_requests=int(suspected.sum()),
        suspected_work=float(seconds[suspected].sum()),
        exempt=day.count("exempt"),
        shadow=day.count("shadow"),
        charts=(
            DashboardChart(
                "Requests, by half hour",
                "time, UTC",
                "requests",
                slots.x,
                _series(slots.sums(day.at[unsuspected]), slots.sums(day.at[suspected])),
            ),
            DashboardChart(
                "Work, by half hour",
                "time, UTC",
                "reference seconds",
                slots.x,
                _series(
                    slots.sums(day.at[unsuspected], seconds[unsuspected]),
                    slots.sums(day.at[suspected], seconds[suspected]),
                    above=0.0,
                ),
                y_kind="seconds",
                y_log=True,
            ),
        ),
    )


def _series(unsuspected: Floats, suspected: Floats, above: float | None = None) -> tuple[Series, ...]:
    return (
        Series("not suspected", finite_values(unsuspected, above=above), "honest", "steps"),
        Series("suspected", finite_values(suspected, above=above), "thief", "steps"),
    )
