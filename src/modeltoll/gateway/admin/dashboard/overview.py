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
from modeltoll.gateway.admin.dashboard.kinds import kinds_view
from modeltoll.gateway.admin.dashboard.log_arrays import LogTail
from modeltoll.gateway.admin.dashboard.models import LONG_STANDING_SECONDS
from modeltoll.gateway.admin.dashboard.price_curve import price_curve
from modeltoll.gateway.admin.dashboard.suspects import findings, suspects
from modeltoll.gateway.admin.dashboard.traffic import traffic_view
from modeltoll.gateway.admin.dashboard.what_if import compare
from modeltoll.gateway.admin.dashboard.what_if_form import fields_of, other_settings

if TYPE_CHECKING:
    from modeltoll.gateway.admin.dashboard.callers import CallerRow
    from modeltoll.gateway.admin.dashboard.drift import DriftView
    from modeltoll.gateway.admin.dashboard.honest_waits import HonestWaits
    from modeltoll.gateway.admin.dashboard.kinds import KindsView
    from modeltoll.gateway.admin.dashboard.ledger_reader import LedgerSnapshot
    from modeltoll.gateway.admin.dashboard.log_arrays import DayLog
    from modeltoll.gateway.admin.dashboard.price_curve import PriceCurve
    from modeltoll.gateway.admin.dashboard.suspects import SuspectList
    from modeltoll.gateway.admin.dashboard.traffic import TrafficView
    from modeltoll.gateway.admin.dashboard.what_if import WhatIfComparison
    from modeltoll.gateway.admin.dashboard.what_if_form import WhatIfField
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
    no drift monitor. ``long_standing_seconds``: after which a caller is of long standing.
    """

    model: str
    measures: tuple[str, ...]
    at: float
    ledger: LedgerSnapshot | None
    tariff: ConformalTariff | None
    drift: DriftReading | None
    long_standing_seconds: float = LONG_STANDING_SECONDS


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
    suspects: SuspectList | None = None
    kinds: KindsView | None = None
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
    assessment = None if tariff is None else _assess(day, tariff)
    if tariff is not None and assessment is not None:
        day = day.priced(tariff, assessment)
    limit = None if options.all_callers else FEW_CALLERS
    found = findings(ledger, snapshot.model, tariff) if ledger else {}
    callers, caller_count = caller_rows(ledger, day, tariff, found, options.sort, limit) if ledger else ((), 0)
    view = Overview(
        complete=tail.complete,
        since=tail.since,
        traffic=traffic_view(day) if ledger else None,
        callers=callers,
        caller_count=caller_count,
    )
    if tariff is None or assessment is None:
        return view
    other, error = _other(tariff, options.settings)
    view = replace(view, curve=price_curve(tariff), fields=fields_of(tariff.calibration, options.settings), error=error)
    if snapshot.drift:
        view = replace(view, drift=drift_view(day, tariff, assessment, snapshot.drift))
    if ledger is None:
        return view
    return replace(
        view,
        suspects=suspects(found, day, tariff, snapshot.long_standing_seconds),
        kinds=kinds_view(found, day, tariff, assessment, snapshot.drift),
        waits=honest_waits(day, tariff, assessment),
        comparison=compare(day, found, tariff, assessment, None if other is None else (other, _assess(day, other))),
    )


def _other(tariff: ConformalTariff, settings: Mapping[str, str]) -> tuple[ConformalTariff | None, str]:
    """The tariff of the what-if form, None where it changes nothing or is invalid, and the reason why it is."""
    try:
        return other_settings(tariff, settings), ""
    except CalibrationError as invalid:
        return None, str(invalid)


def _assess(day: DayLog, tariff: ConformalTariff) -> Assessment:
    """The tariff's assessment of the day's rows, with a fixed seed."""
    return tariff.assess(day.leak_record, np.random.default_rng(_SEED))
