"""Requests and work over time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.gateway.admin.dashboard.charts import Chart, Series, points

if TYPE_CHECKING:
    from modeltoll.gateway.admin.dashboard.log_arrays import DayLog
    from modeltoll.records import Floats, Integers

__all__ = ["STEP", "TimeSlots", "TrafficView", "traffic_view"]

STEP = 1800.0  # seconds


@dataclass(frozen=True, slots=True, eq=False)
class TimeSlots:
    """Half hours that a day is cut into; ``starts`` (slots,) in seconds since the epoch."""

    starts: Floats

    @classmethod
    def of(cls, day: DayLog) -> TimeSlots:
        first, last = math.floor(day.since / STEP), math.floor(day.until / STEP)
        return cls(np.arange(first, last + 1, dtype=np.float64) * STEP)

    @property
    def x(self) -> tuple[float, ...]:
        return tuple(self.starts.tolist())

    def sums(self, at: Floats, weights: Floats | Integers | None = None) -> Floats:
        """The sum of the weights, or the number, of what happened in each slot, (slots,)."""
        places = ((at - self.starts[0]) // STEP).astype(np.int64)
        sums: Floats = np.bincount(places, weights, minlength=len(self.starts)).astype(np.float64)
        return sums


@dataclass(frozen=True, slots=True)
class TrafficView:
    """Totals of a day; work in reference seconds, ``suspected_`` is the part of callers under suspicion at the time.

    ``shadow`` says that nothing of the work was charged for, ``exempt`` how many requests paid nothing as agreed.
    """

    requests: int
    rows: int
    work: float
    suspected_requests: int
    suspected_work: float
    exempt: int
    shadow: int
    charts: tuple[Chart, ...]


def traffic_view(day: DayLog) -> TrafficView:
    """What was asked, and what was asked for it."""
    slots, suspected, seconds = TimeSlots.of(day), day.suspected, day.seconds
    others = ~suspected
    return TrafficView(
        requests=len(day.at),
        rows=int(day.rows.sum()),
        work=float(seconds.sum()),
        suspected_requests=int(suspected.sum()),
        suspected_work=float(seconds[suspected].sum()),
        exempt=day.count("exempt"),
        shadow=day.count("shadow"),
        charts=(
            Chart(
                "Requests, by half hour",
                "time, UTC",
                "requests",
                slots.x,
                _series(slots.sums(day.at[others]), slots.sums(day.at[suspected])),
            ),
            Chart(
                "Work asked, by half hour",
                "time, UTC",
                "reference seconds",
                slots.x,
                _series(
                    slots.sums(day.at[others], seconds[others]),
                    slots.sums(day.at[suspected], seconds[suspected]),
                    above=0.0,
                ),
                y_kind="seconds",
                y_log=True,
            ),
        ),
    )


def _series(others: Floats, suspected: Floats, above: float | None = None) -> tuple[Series, ...]:
    return (
        Series("not under suspicion", points(others, above=above), "honest", "steps"),
        Series("under suspicion", points(suspected, above=above), "thief", "steps"),
    )
