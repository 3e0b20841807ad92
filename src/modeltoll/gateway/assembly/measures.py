"""Measures as the settings name them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modeltoll.errors import SettingsError
from modeltoll.leak.measure import clean_measure, reads_inputs_alone
from modeltoll.leak.registry import INPUTS, MEASURES
from modeltoll.names import clean_name
from modeltoll.plugins import call_factory, check_made

if TYPE_CHECKING:
    from modeltoll.gateway.settings.served_models import MeasureSettings
    from modeltoll.leak.measure import LeakMeasure

__all__ = ["build_measure"]


def build_measure(settings: MeasureSettings) -> LeakMeasure:
    """The measure that the settings name, from its file and options.

    Raises:
        SettingsError: there is none of that name that can be used, its options do not fit, or it is not what its
            specification says. CalibrationError: its file cannot be used.
    """
    spec = MEASURES.find(settings.name)
    arguments: dict[str, Any] = dict(settings.options)
    given = {"file": settings.file, "neighbours": settings.neighbours}
    arguments |= {name: value for name, value in given.items() if value is not None}
    what = MEASURES.describe(spec.name)
    measure: LeakMeasure = call_factory(spec.factory, arguments, what)
    check_made(measure, spec.name, ("measure",), what)
    if reads_inputs_alone(measure) != (spec.reads == INPUTS):
        raise SettingsError([f"{what}: reads={spec.reads!r} and its attribute inputs_alone disagree"])
    clean = clean_measure(measure)
    if clean is not measure:
        check_made(clean, clean_name(spec.name), ("measure",), f"{what}: its attribute clean")
        if reads_inputs_alone(clean) != reads_inputs_alone(measure):
            raise SettingsError([f"{what}: it and its attribute clean disagree in inputs_alone"])
    return measure
