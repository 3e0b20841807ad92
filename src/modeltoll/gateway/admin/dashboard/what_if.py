"""Replays the log of the last day under other settings, and compares what it costs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.errors import CalibrationError
from modeltoll.gateway.admin.dashboard.honest_waits import SHARES, quantile, row_waits
from modeltoll.pricing.conformal_tariff import ConformalTariff
from modeltoll.records import Assessment

if TYPE_CHECKING:
    from modeltoll.gateway.admin.dashboard.log_arrays import DayLog
    from modeltoll.pricing.calibration import Calibration
    from modeltoll.records import Bools, Floats, Integers

__all__ = ["FIELDS", "ReplayCost", "WhatIfComparison", "WhatIfField", "compare", "fields_of", "other_settings"]

_WEIGHT = "weight_"


@dataclass(frozen=True, slots=True)
class WhatIfField:
    """One field of the form: name, label, hint, and value as text."""

    name: str
    label: str
    hint: str
    value: str


@dataclass(frozen=True, slots=True)
class ReplayCost:
    """What the day cost under one set of settings, in reference seconds, without new-account tolls.

    Suspects are callers who are suspected in the log or by the settings in force; honest callers are all others.
    ``waits`` are the honest rows' waits at the shares of ``SHARES``, None without rows. ``false_alarms`` is the number of
    honest callers, ``detected`` the number of suspects, whom these settings suspect.
    """

    name: str
    honest_work: float
    honest_mean: float | None
    waits: tuple[float | None, ...]
    false_alarms: int
    suspect_work: float
    suspect_mean: float | None
    detected: int


@dataclass(frozen=True, slots=True)
class WhatIfComparison:
    """The costs as charged, replayed with the settings in force, and replayed with the other settings, if any."""

    honest_callers: int
    honest_rows: int
    suspects: int
    suspect_rows: int
    costs: tuple[ReplayCost, ...]


FIELDS = {
    "g": ("g", "exponent of the price, 0 to 1"),
    "unit_ms": ("unit, ms", "work of an average honest row"),
    "alpha": ("alpha", "probability that an honest caller is ever suspected"),
    "rho": ("rho", "tolerance for drift, 0 or more"),
    "maximum": ("highest surcharge", "factor, 1 or more"),
}


def _current_values(calibration: Calibration) -> dict[str, float]:
    terms = calibration.suspicion
    values = {
        "g": calibration.g,
        "unit_ms": 1000.0 * calibration.unit_seconds,
        "alpha": terms.alpha,
        "rho": terms.rho,
        "maximum": terms.maximum,
    }
    weights = calibration.weights if len(calibration.measures) > 1 else ()
    return values | {f"{_WEIGHT}{index}": weight for index, weight in enumerate(weights)}


def fields_of(calibration: Calibration, query: Mapping[str, str]) -> tuple[WhatIfField, ...]:
    """The fields of the form, with the values of the query or else those in force."""
    fields = []
    for name, value in _current_values(calibration).items():
        if name in FIELDS:
            label, hint = FIELDS[name]
        else:
            label, hint = (
                f"weight of {calibration.measures[int(name.removeprefix(_WEIGHT))]}",
                "weights are scaled to a sum of 1",
            )
        fields.append(WhatIfField(name, label, hint, query.get(name, "").strip()[:24] or f"{value:.6g}"))
    return tuple(fields)


def other_settings(tariff: ConformalTariff, query: Mapping[str, str]) -> ConformalTariff | None:
    """The tariff with the values of the form's query; None if they change nothing. Weights are scaled to a sum of 1.

    Raises:
        CalibrationError: a value is not a number, or out of range; the message may be shown.
    """
    calibration, values = tariff.calibration, _current_values(tariff.calibration)
    changed = {name: query[name].strip()[:24] for name in values if query.get(name, "").strip()}
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
    """Costs of the day under the settings in force, and under others, each with its assessment of the day's rows.

    Exempt callers are left out. Every caller is replayed as new at the start of the day, without markup, discount and
    groups; a row with the same leaks as an earlier row of the same caller counts as a repetition.
    """
    paying, count = day.rows_of(~day.exempt), len(day.hashes)
    callers, first_occurrences = day.callers[day.row_lines][paying], _first_occurrences(day)[paying]
    logged_suspicion = day.rows_of(day.suspected)[paying]
    seconds, suspected = _replayed(tariff, _assessment_of(assessment, paying), callers, first_occurrences)
    suspects = _any_of(logged_suspicion | suspected, callers, count)
    columns = [
        ("as charged", row_waits(day, tariff, assessment)[paying], logged_suspicion),
        ("replayed, settings in force", seconds, suspected),
    ]
    if other is not None:
        columns.append(
            (
                "replayed, these settings",
                *_replayed(other[0], _assessment_of(other[1], paying), callers, first_occurrences),
            )
        )
    suspect_rows = suspects[callers]
    present = _any_of(np.ones(len(callers), np.bool_), callers, count)
    return WhatIfComparison(
        honest_callers=int((present & ~suspects).sum()),
        honest_rows=int((~suspect_rows).sum()),
        suspects=int(suspects.sum()),
        suspect_rows=int(suspect_rows.sum()),
        costs=tuple(
            _replay_cost(name, work, _any_of(suspected_rows, callers, count), suspects, suspect_rows)
            for name, work, suspected_rows in columns
        ),
    )


def _assessment_of(assessment: Assessment, rows: Bools) -> Assessment:
    return Assessment(assessment.factors[rows], assessment.rarest[rows], assessment.bins[rows])


def _first_occurrences(day: DayLog) -> Bools:
    """False for rows with the same leaks as an earlier row of the same caller, (rows,)."""
    keys = (*day.leaks.T, day.callers[day.row_lines])
    order = np.lexsort(keys)  # stable: among equal rows the earliest is first
    first_occurrences = np.ones(len(order), np.bool_)
    first_occurrences[order[1:]] = np.any([key[order[1:]] != key[order[:-1]] for key in keys], axis=0)
    return first_occurrences


def _replayed(
    tariff: ConformalTariff, assessment: Assessment, callers: Integers, first_occurrences: Bools
) -> tuple[Floats, Bools]:
    """The work of each row, and whether its caller is suspected at that row, both (rows,)."""
    suspicion = tariff.suspicion
    surcharge = suspicion.surcharge_at(suspicion.running_log_evidence(assessment.bins, callers, first_occurrences))
    units = assessment.factors * tariff.multipliers(assessment, surcharge)
    return tariff.calibration.unit_seconds * units, surcharge > 1.0


def _any_of(marks: Bools, callers: Integers, count: int) -> Bools:
    """Whether any row of each caller is marked, (callers,)."""
    return np.bincount(callers, marks, count) > 0


def _replay_cost(name: str, work: Floats, suspected: Bools, suspects: Bools, suspect_rows: Bools) -> ReplayCost:
    """``suspected`` and ``suspects`` are of callers, (callers,); ``work`` and ``suspect_rows`` of rows, (rows,)."""
    honest, suspect_work = work[~suspect_rows], work[suspect_rows]
    return ReplayCost(
        name=name,
        honest_work=float(honest.sum()),
        honest_mean=float(honest.mean()) if len(honest) else None,
        waits=tuple(quantile(honest, share) for share in SHARES),
        false_alarms=int((suspected & ~suspects).sum()),
        suspect_work=float(suspect_work.sum()),
        suspect_mean=float(suspect_work.mean()) if len(suspect_work) else None,
        detected=int((suspected & suspects).sum()),
    )
