"""What the last day would have cost under other settings, replayed from the log."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.errors import CalibrationError
from modeltoll.gateway.admin.dashboard.honest_waits import SHARES, quantile, row_waits
from modeltoll.pricing.conformal import ConformalTariff
from modeltoll.records import Assessment

if TYPE_CHECKING:
    from modeltoll.gateway.admin.dashboard.log_arrays import DayLog
    from modeltoll.pricing.calibration import Calibration
    from modeltoll.records import Bools, Floats, Integers

__all__ = ["FIELDS", "ReplayCost", "WhatIfComparison", "WhatIfField", "compare", "fields_of", "other_settings"]

_WEIGHT = "weight_"


@dataclass(frozen=True, slots=True)
class WhatIfField:
    """One setting of the form: its name, what it is, and its value as text."""

    name: str
    label: str
    hint: str
    value: str


@dataclass(frozen=True, slots=True)
class ReplayCost:
    """What the day cost under some settings, in reference seconds; entry tolls are left out.

    ``honest_`` is of the rows of callers whom neither the log nor the settings in force suspect; ``waits`` are theirs at
    the shares of ``SHARES``, None without rows. ``alarms`` are how many of them these settings suspect. The
    ``suspect_`` are of all others; ``caught`` of them are suspected.
    """

    name: str
    honest_work: float
    honest_mean: float | None
    waits: tuple[float | None, ...]
    alarms: int
    suspect_work: float
    suspect_mean: float | None
    caught: int


@dataclass(frozen=True, slots=True)
class WhatIfComparison:
    """The day as it was charged, as the settings in force would charge it, and the others, if there are any."""

    honest_callers: int
    honest_rows: int
    suspects: int
    suspect_rows: int
    reckonings: tuple[ReplayCost, ...]


FIELDS = {
    "g": ("g", "bend of the price, 0 to 1"),
    "unit_ms": ("unit, ms", "work of an average honest row"),
    "alpha": ("alpha", "chance that an honest caller is ever suspected"),
    "rho": ("rho", "tolerance"),
    "maximum": ("highest surcharge", "1 and more"),
}


def _in_force(calibration: Calibration) -> dict[str, float]:
    terms = calibration.suspicion
    values = {
        "g": calibration.g,
        "unit_ms": 1000.0 * calibration.unit_seconds,
        "alpha": terms.alpha,
        "rho": terms.rho,
        "maximum": terms.maximum,
    }
    weights = calibration.weights if len(calibration.measures) > 1 else ()
    return values | {f"{_WEIGHT}{place}": weight for place, weight in enumerate(weights)}


def fields_of(calibration: Calibration, given: Mapping[str, str]) -> tuple[WhatIfField, ...]:
    """The form's fields: what was given, else what is in force."""
    fields = []
    for name, value in _in_force(calibration).items():
        if name in FIELDS:
            label, hint = FIELDS[name]
        else:
            label, hint = (
                f"weight of {calibration.measures[int(name.removeprefix(_WEIGHT))]}",
                "weights share the price",
            )
        fields.append(WhatIfField(name, label, hint, given.get(name, "").strip()[:24] or f"{value:.6g}"))
    return tuple(fields)


def other_settings(tariff: ConformalTariff, given: Mapping[str, str]) -> ConformalTariff | None:
    """The tariff with what was given of the form's fields in place of its own; None where that changes nothing.

    Weights are brought to a sum of 1.

    Raises:
        CalibrationError: something given is no number, or out of range; the message may be shown.
    """
    calibration, values = tariff.calibration, _in_force(tariff.calibration)
    changed = {name: given[name].strip()[:24] for name in values if given.get(name, "").strip()}
    changed = {name: text for name, text in changed.items() if text != f"{values[name]:.6g}"}
    if not changed:
        return None
    for name, text in changed.items():
        values[name] = _number(name, text)
    weights = [value for name, value in values.items() if name.startswith(_WEIGHT)] or [1.0]
    if min(weights) < 0.0 or not 0.0 < math.fsum(weights) < math.inf:
        raise CalibrationError("weights must be 0 or more, and not all of them 0")
    suspicion = replace(calibration.suspicion, alpha=values["alpha"], rho=values["rho"], maximum=values["maximum"])
    other = replace(
        calibration,
        g=values["g"],
        unit_seconds=values["unit_ms"] / 1000.0,
        suspicion=suspicion,
        weights=tuple(weight / math.fsum(weights) for weight in weights),
        report=None,
    )
    return ConformalTariff(other)


def _number(name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        label = FIELDS[name][0] if name in FIELDS else "a weight"
        raise CalibrationError(f"{label}: {text!r} is not a number")
    return number


def compare(
    day: DayLog, tariff: ConformalTariff, assessment: Assessment, other: tuple[ConformalTariff, Assessment] | None
) -> WhatIfComparison:
    """What the day cost under the settings in force, and others; each with its assessment of the day's rows.

    Exempt callers are left out. Every caller is replayed as if he were new when the day began, without markup, discount
    or group; a row whose leaks its caller has shown before counts as sent again.
    """
    paying, count = day.rows_of(~day.exempt), len(day.names)
    callers, fresh = day.callers[day.row_lines][paying], _fresh(day)[paying]
    logged = day.rows_of(day.suspected)[paying]
    seconds, suspected = _replayed(tariff, _part(assessment, paying), callers, fresh)
    suspects = _any_of(logged | suspected, callers, count)
    columns = [
        ("as charged", row_waits(day, tariff, assessment)[paying], logged),
        ("replayed, settings in force", seconds, suspected),
    ]
    if other is not None:
        columns.append(("replayed, these settings", *_replayed(other[0], _part(other[1], paying), callers, fresh)))
    guilty = suspects[callers]
    present = _any_of(np.ones(len(callers), np.bool_), callers, count)
    return WhatIfComparison(
        honest_callers=int((present & ~suspects).sum()),
        honest_rows=int((~guilty).sum()),
        suspects=int(suspects.sum()),
        suspect_rows=int(guilty.sum()),
        reckonings=tuple(
            _replay_cost(name, paid, _any_of(alarm, callers, count), suspects, guilty) for name, paid, alarm in columns
        ),
    )


def _part(assessment: Assessment, rows: Bools) -> Assessment:
    return Assessment(assessment.factors[rows], assessment.rarest[rows], assessment.bins[rows])


def _fresh(day: DayLog) -> Bools:
    """False for rows whose caller has shown the very same leaks before, (rows,)."""
    keys = (*day.leaks.T, day.callers[day.row_lines])
    order = np.lexsort(keys)  # of equal rows the first comes first
    fresh = np.ones(len(order), np.bool_)
    fresh[order[1:]] = np.any([key[order[1:]] != key[order[:-1]] for key in keys], axis=0)
    return fresh


def _replayed(tariff: ConformalTariff, assessment: Assessment, callers: Integers, fresh: Bools) -> tuple[Floats, Bools]:
    """What each row costs, and whether its caller is under suspicion then."""
    suspicion = tariff.suspicion
    surcharge = suspicion.surcharge_at(suspicion.running_log_evidence(assessment.bins, callers, fresh))
    units = assessment.factors * tariff.multipliers(assessment, surcharge)
    return tariff.calibration.unit_seconds * units, surcharge > 1.0


def _any_of(marks: Bools, callers: Integers, count: int) -> Bools:
    """Whether any of a caller's rows is marked, (callers,)."""
    return np.bincount(callers, marks, count) > 0


def _replay_cost(name: str, paid: Floats, alarmed: Bools, suspects: Bools, guilty: Bools) -> ReplayCost:
    """``alarmed`` and ``suspects`` are of callers, (callers,); ``paid`` and ``guilty`` of rows, (rows,)."""
    honest, others = paid[~guilty], paid[guilty]
    return ReplayCost(
        name=name,
        honest_work=float(honest.sum()),
        honest_mean=float(honest.mean()) if len(honest) else None,
        waits=tuple(quantile(honest, share) for share in SHARES),
        alarms=int((alarmed & ~suspects).sum()),
        suspect_work=float(others.sum()),
        suspect_mean=float(others.mean()) if len(others) else None,
        caught=int((alarmed & suspects).sum()),
    )
