"""The data of the overview page, from a ledger snapshot and the drift figures of one model. CPU-bound; run it in a thread."""

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
    from modeltoll.pricing.conformal_tariff import ConformalTariff
    from modeltoll.pricing.drift import DriftReading
    from modeltoll.records import Assessment

__all__ = ["FEW_CALLERS", "ModelSnapshot", "Overview", "ViewOptions", "overview"]

FEW_CALLERS = 12  # number of callers in the table by default
_SEED = 0  # seed of tie breaking, so that the same log gives the same page


@dataclass(frozen=True, slots=True)
class ViewOptions:
    """The query of the page: the order of the callers, whether all are listed, and the values of the what-if form."""

    sort: str
    all_callers: bool
    settings: Mapping[str, str]

    @classmethod
    def of(cls, query: Mapping[str, str]) -> ViewOptions:
        """The options in a query string; unknown values are replaced by the default."""
        sort = query.get("sort", SORTS[0])
        return cls(sort if sort in SORTS else SORTS[0], query.get("callers") == "all", query)


@dataclass(frozen=True, slots=True, eq=False)
class ModelSnapshot:
    """What is known of a model at the time ``at`` (seconds since the epoch).

    ``ledger`` is None if the ledger does not answer, ``tariff`` if the model has no conformal tariff, ``drift`` if it has
    no drift monitor.
    """

    model: str
    measures: tuple[str, ...]
    at: float
    ledger: LedgerSnapshot | None
    tariff: ConformalTariff | None
    drift: DriftReading | None


@dataclass(frozen=True, slots=True)
class Overview:
    """The panels of the page; None where a panel has no data.

    ``complete`` is False if the log of the day was too long to be read whole; then it starts at ``since`` (seconds since
    the epoch). ``error`` says why the values of the what-if form are invalid.
    """

    complete: bool
    since: float
    traffic: TrafficView | None
    callers: tuple[CallerRow, ...]
    caller_count: int
    waits: HonestWaits | None = None
    curve: PriceCurve | None = None
    drift: DriftView | None = None
    fields: tuple[WhatIfField, ...] = ()
    comparison: WhatIfComparison | None = None
    error: str = ""


def overview(snapshot: ModelSnapshot, options: ViewOptions) -> Overview:
    """All panels of a model."""
    ledger, tariff = snapshot.ledger, snapshot.tariff
    tail = ledger.tail if ledger else LogTail((), snapshot.at, snapshot.at, complete=True)
    day = tail.day(snapshot.model, snapshot.measures)
    limit = None if options.all_callers else FEW_CALLERS
    callers, caller_count = caller_rows(ledger, day, tariff, options.sort, limit) if ledger else ((), 0)
    view = Overview(
        complete=tail.complete,
        since=tail.since,
        traffic=traffic_view(day) if ledger else None,
        callers=callers,
        caller_count=caller_count,
    )
    return _with_prices(view, snapshot, day, tariff, options) if tariff else view


def _with_prices(
    view: Overview, snapshot: ModelSnapshot, day: DayLog, tariff: ConformalTariff, options: ViewOptions
) -> Overview:
    """The overview with the panels that need a tariff."""
    assessment = _assess(day, tariff)
    other, error = None, ""
    try:
        other = other_settings(tariff, options.settings)
    except CalibrationError as invalid:
        error = str(invalid)
    view = replace(
        view,
        curve=price_curve(tariff),
        drift=drift_view(day, tariff, assessment, snapshot.drift) if snapshot.drift else None,
        fields=fields_of(tariff.calibration, options.settings),
        error=error,
    )
    if snapshot.ledger is None:
        return view
    other_assessed = (other, _assess(day, other)) if other else None
    return replace(
        view,
        waits=honest_waits(day, tariff, assessment),
        comparison=compare(day, tariff, assessment, other_assessed),
    )


def _assess(day: DayLog, tariff: ConformalTariff) -> Assessment:
    """The tariff's assessment of the day's rows, with a fixed seed."""
    return tariff.assess(day.leak_record, np.random.default_rng(_SEED))
