"""The form of the what-if panel: its fields, and the tariff that its values make."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from modeltoll.errors import CalibrationError
from modeltoll.pricing.conformal_tariff import ConformalTariff

if TYPE_CHECKING:
    from modeltoll.pricing.calibration import Calibration

__all__ = ["FIELDS", "WhatIfField", "fields_of", "other_settings"]

_WEIGHT = "weight_"


@dataclass(frozen=True, slots=True)
class WhatIfField:
    """One field of the form: name, label, hint, and value as text."""

    name: str
    label: str
    hint: str
    value: str


FIELDS = {
    "g": ("g", "exponent of the price, 0 to 1"),
    "unit_ms": ("unit, ms", "work of an average honest row"),
    "alpha": ("alpha", "probability that an honest caller is suspected in 90 days"),
    "rho": ("rho", "tolerance about the kinds, 0 or more"),
    "rho0": ("rho0", "further tolerance per row, 0 or more"),
    "maximum": ("highest surcharge", "factor, 1 or more"),
}


def _current_values(calibration: Calibration) -> dict[str, float]:
    terms = calibration.suspicion
    values = {
        "g": calibration.g,
        "unit_ms": 1000.0 * calibration.unit_seconds,
        "alpha": terms.alpha,
        "rho": terms.rho,
        "rho0": terms.rho0,
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
    terms = {name: values[name] for name in ("alpha", "rho", "rho0", "maximum")}
    other = replace(
        calibration,
        g=values["g"],
        unit_seconds=values["unit_ms"] / 1000.0,
        suspicion=replace(calibration.suspicion, **terms),
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
