"""Everything on one page, from what the ledger and a model's watch have said. Pure, and slow enough for a thread."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.errors import CalibrationError
from modeltoll.gateway.admin.dashboard.callers import SORTS, caller_rows
from modeltoll.gateway.admin.dashboard.drift import drift_view
from modeltoll.gateway.admin.dashboard.honest_waits import honest_waits
from modeltoll.gateway.admin.dashboard.log_arrays import LogTail
from modeltoll.gateway.admin.dashboard.price_curve import price_curve
from modeltoll.gateway.admin.dashboard.traffic import traffic_view
from modeltoll.gateway.admin.dashboard.what_if import compare, fields_of, other_settings

if TYPE_CHECKING:
    from modeltoll.gateway.admin.dashboard.callers import CallerRow
    from modeltoll.gateway.admin.dashboard.drift import DriftView
    from modeltoll.gateway.admin.dashboard.honest_waits import HonestWaits
    from modeltoll.gateway.admin.dashboard.ledger_reader import LedgerSnapshot
    from modeltoll.gateway.admin.dashboard.log_arrays import DayLog
    from modeltoll.gateway.admin.dashboard.price_curve import PriceCurve
    from modeltoll.gateway.admin.dashboard.traffic import TrafficView
    from modeltoll.gateway.admin.dashboard.what_if import WhatIfComparison, WhatIfField
    from modeltoll.pricing.conformal import ConformalTariff
    from modeltoll.pricing.drift import DriftReading
    from modeltoll.records import Assessment

__all__ = ["FEW", "ModelSnapshot", "Overview", "ViewOptions", "overview"]

FEW = 12  # callers that are listed at first
_SEED = 0  # of what breaks ties: the same log is always read alike


@dataclass(frozen=True, slots=True)
class ViewOptions:
    """What the visitor asks for: an order of the callers, all of them or a few, and other settings, as texts."""

    sort: str
    every: bool
    settings: Mapping[str, str]

    @classmethod
    def of(cls, query: Mapping[str, str]) -> ViewOptions:
        """What a query says; whatever it does not say rightly is as if it were not said."""
        sort = query.get("sort", SORTS[0])
        return cls(sort if sort in SORTS else SORTS[0], query.get("callers") == "all", query)


@dataclass(frozen=True, slots=True, eq=False)
class ModelSnapshot:
    """How a model stands now: the ledger's reading, or why there is none, the tariff in force, and what its watch says."""

    model: str
    measures: tuple[str, ...]
    at: float
    reading: LedgerSnapshot | None
    tariff: ConformalTariff | None
    drift: DriftReading | None


@dataclass(frozen=True, slots=True)
class Overview:
    """The panels; None where nothing is to be had for one. ``fault`` says why the other settings cannot be tried."""

    whole: bool
    since: float
    traffic: TrafficView | None
    standings: tuple[CallerRow, ...]
    callers: int
    waits: HonestWaits | None = None
    curve: PriceCurve | None = None
    drift: DriftView | None = None
    fields: tuple[WhatIfField, ...] = ()
    compared: WhatIfComparison | None = None
    fault: str = ""


def overview(stand: ModelSnapshot, wish: ViewOptions) -> Overview:
    """All panels of a model."""
    reading, tariff = stand.reading, stand.tariff
    tail = reading.tail if reading else LogTail((), stand.at, stand.at, whole=True)
    day = tail.day(stand.model, stand.measures)
    found, callers = caller_rows(reading, day, tariff, wish.sort, None if wish.every else FEW) if reading else ((), 0)
    view = Overview(
        whole=tail.whole,
        since=tail.since,
        traffic=traffic_view(day) if reading else None,
        standings=found,
        callers=callers,
    )
    return _priced(view, stand, day, tariff, wish) if tariff else view


def _priced(view: Overview, stand: ModelSnapshot, day: DayLog, tariff: ConformalTariff, wish: ViewOptions) -> Overview:
    """The same with what prices say."""
    assessment = _assessed(day, tariff)
    other, fault = None, ""
    try:
        other = other_settings(tariff, wish.settings)
    except CalibrationError as error:
        fault = str(error)
    view = replace(
        view,
        curve=price_curve(tariff),
        drift=drift_view(day, tariff, assessment, stand.drift) if stand.drift else None,
        fields=fields_of(tariff.calibration, wish.settings),
        fault=fault,
    )
    if stand.reading is None:
        return view
    tried = (other, _assessed(day, other)) if other else None
    return replace(view, waits=honest_waits(day, tariff, assessment), compared=compare(day, tariff, assessment, tried))


def _assessed(day: DayLog, tariff: ConformalTariff) -> Assessment:
    """The tariff's reading of the day's rows; ties are always broken alike."""
    return tariff.assess(day.leak_record, np.random.default_rng(_SEED))
