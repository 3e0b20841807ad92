"""What a tariff is made for, as settings and options say."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modeltoll.errors import SettingsError

__all__ = ["CalibrationTarget", "target_from_settings"]


@dataclass(frozen=True, slots=True)
class CalibrationTarget:
    """What a tariff is made for, and where it goes; ``loaded`` are the gateway's settings, None without any.

    ``private`` are files that hold something of the model's own training rows.
    """

    model: str
    tariff: Path
    measures: tuple[str, ...]
    weights: tuple[float, ...] | None = None
    private: tuple[Path, ...] = ()
    loaded: Any = None


def target_from_settings(
    settings: Path | None, model: str | None, leaks: Path | None, tariff: Path | None, measures: str | None
) -> CalibrationTarget:
    """The goal of a gateway's settings, or of recorded leaks alone.

    Raises:
        SettingsError: the options do not go together, or name what is not there.
    """
    from modeltoll.gateway.settings.load import load_settings  # noqa: PLC0415
    from modeltoll.pricing.leak_samples import measures_of  # noqa: PLC0415

    if settings is None:
        if leaks is None or tariff is None:
            raise SettingsError(["calibrate: without settings, give --leaks and --out"])
        named, weights = _weighted(measures) if measures else (measures_of(leaks), None)
        return CalibrationTarget(model or leaks.stem, tariff, named, weights)
    if measures is not None:
        raise SettingsError(["--measures: the settings say which measures there are"])
    loaded = load_settings(settings)
    name = _one_model(loaded.models, model)
    chosen = loaded.models[name]
    named = tuple(measure.name for measure in chosen.measures)
    private = tuple(measure.file for measure in chosen.measures if measure.file)
    return CalibrationTarget(name, tariff or chosen.tariff, named, chosen.weights, private, loaded)


def _weighted(text: str) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Names and weights, as shares, from ``entropy,novelty=2``."""
    named: dict[str, float] = {}
    for part in text.split(","):
        name, _, stated = part.strip().partition("=")
        try:
            weight = float(stated or 1.0)
        except ValueError:
            weight = math.nan
        if name in named or not 0.0 < weight < math.inf:
            raise SettingsError([f"--measures: {part!r} is not a measure, or a measure and its weight: novelty=2"])
        named[name] = weight
    whole = sum(named.values())
    return tuple(named), tuple(weight / whole for weight in named.values())


def _one_model(models: Mapping[str, Any], wanted: str | None) -> str:
    if wanted is None and len(models) != 1:
        raise SettingsError([f"--model: the settings list several; choose one of {', '.join(models)}"])
    if wanted is not None and wanted not in models:
        raise SettingsError([f"--model: there is no {wanted!r}; there are: {', '.join(models)}"])
    return wanted or next(iter(models))
