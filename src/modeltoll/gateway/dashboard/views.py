"""Everything on one page, from what the ledger and a model's watch have said. Pure, and slow enough for a thread."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.errors import CalibrationError
from modeltoll.gateway.dashboard.callers import SORTS, standings
from modeltoll.gateway.dashboard.curve import curve
from modeltoll.gateway.dashboard.day import Tail
from modeltoll.gateway.dashboard.drifting import drifting
from modeltoll.gateway.dashboard.traffic import traffic
from modeltoll.gateway.dashboard.waits import waits
from modeltoll.gateway.dashboard.whatif import compare, fields_of, other_settings

if TYPE_CHECKING:
    from modeltoll.gateway.dashboard.callers import Standing
    from modeltoll.gateway.dashboard.curve import Curve
    from modeltoll.gateway.dashboard.drifting import Drifting
    from modeltoll.gateway.dashboard.reading import Reading
    from modeltoll.gateway.dashboard.traffic import Traffic
    from modeltoll.gateway.dashboard.waits import Waits
    from modeltoll.gateway.dashboard.whatif import Compared, Field
    from modeltoll.pricing.conformal import ConformalTariff
    from modeltoll.pricing.drift import DriftReading

__all__ = ["FEW", "Overview", "Stand", "Wish", "overview"]

FEW = 12  # callers that are listed at first
_SEED = 0  # of what breaks ties: the same log is always read alike


@dataclass(frozen=True, slots=True)
class Wish:
    """What the visitor asks for: an order of the callers, all of them or a few, and other settings, as texts."""

    sort: str
    every: bool
    settings: Mapping[str, str]

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Wish:
        """What a query says; whatever it does not say rightly is as if it were not said."""
        sort = query.get("sort", SORTS[0])
        return cls(sort if sort in SORTS else SORTS[0], query.get("callers") == "all", query)


@dataclass(frozen=True, slots=True, eq=False)
class Stand:
    """How a model stands now: the ledger's reading, or why there is none, the tariff in force, and what its watch says."""

    model: str
    measures: tuple[str, ...]
    at: float
    reading: Reading | None
    tariff: ConformalTariff | None
    drift: DriftReading | None


@dataclass(frozen=True, slots=True)
class Overview:
    """The panels; None where nothing is to be had for one. ``fault`` says why the other settings cannot be tried."""

    whole: bool
    since: float
    traffic: Traffic | None
    waits: Waits | None
    standings: tuple[Standing, ...]
    callers: int
    curve: Curve | None
    drift: Drifting | None
    fields: tuple[Field, ...]
    compared: Compared | None
    fault: str


def overview(stand: Stand, wish: Wish) -> Overview:
    """All panels of a model."""
    tail = stand.reading.tail if stand.reading else Tail((), stand.at, stand.at, whole=True)
    day, tariff, rng = tail.day(stand.model, stand.measures), stand.tariff, np.random.default_rng(_SEED)
    found, callers = (
        standings(stand.reading, day, tariff, wish.sort, None if wish.every else FEW) if stand.reading else ((), 0)
    )
    other, fault = None, ""
    if tariff:
        try:
            other = other_settings(tariff, wish.settings)
        except CalibrationError as error:
            fault = str(error)
    return Overview(
        whole=tail.whole,
        since=tail.since,
        traffic=traffic(day) if stand.reading else None,
        waits=waits(day, tariff, rng) if stand.reading and tariff else None,
        standings=found,
        callers=callers,
        curve=curve(tariff) if tariff else None,
        drift=drifting(day, tariff, stand.drift, rng) if tariff and stand.drift else None,
        fields=fields_of(tariff.calibration, wish.settings) if tariff else (),
        compared=compare(day, tariff, other, rng) if stand.reading and tariff else None,
        fault=fault,
    )
