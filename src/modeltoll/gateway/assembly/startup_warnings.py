"""Warnings for the operator at start: settings that work, but perhaps not as intended."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.gateway.core.request import SHADOW
from modeltoll.gateway.protocols.registry import PROTOCOLS
from modeltoll.gateway.settings.environment import read_environment
from modeltoll.pricing.conformal_tariff import ConformalTariff

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from modeltoll.gateway.settings.gateway import Settings
    from modeltoll.gateway.settings.served_models import ModelSettings
    from modeltoll.pricing.calibration import Calibration
    from modeltoll.pricing.tariff import Tariff

__all__ = ["startup_warnings"]


def startup_warnings(settings: Settings, tariffs: Mapping[str, Tariff]) -> tuple[str, ...]:
    """One sentence per warning."""
    warnings = [*read_environment(os.environ, type(settings)).warnings]
    if not settings.secrets:
        warnings.append("secrets: none is set; tokens of redeem mode are valid only at this gateway, until it stops")
    for name, tariff in tariffs.items():
        if isinstance(tariff, ConformalTariff):
            warnings += _tariff_warnings(name, tariff.calibration, settings.models[name])
        else:
            warnings.append(f"models.{name}.tariff: there is none yet: rows are measured and logged without a price")
        if PROTOCOLS.find(settings.models[name].protocol).named_inputs and not settings.models[name].inputs:
            warnings.append(
                f"models.{name}.inputs: not declared; measures of inputs refuse requests of more than one named input, "
                "for nothing says in which order the model reads them"
            )
        if settings.models[name].mode == SHADOW:
            warnings.append(f"models.{name}.mode: shadow: everything is measured and logged, nothing is charged")
    return tuple(warnings)


def _tariff_warnings(name: str, calibration: Calibration, model: ModelSettings) -> Iterator[str]:
    for warning in calibration.report.warnings if calibration.report else ():
        yield f"models.{name}.tariff: {warning}"
    if not np.allclose(calibration.weights, model.weights):
        yield f"models.{name}.measures: the tariff was made with other weights, and its own are in force"
    if model.coordinates and set(model.coordinates) != set(calibration.coordinates):
        made = " and ".join(calibration.coordinates)
        yield f"models.{name}.coordinates: the tariff was made with {made}, and its own are in force"
