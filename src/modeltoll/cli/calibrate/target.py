"""What a tariff is fitted for: model, measures, weights and file, from settings and options."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modeltoll.errors import SettingsError
from modeltoll.names import clean_name

__all__ = ["CalibrationTarget", "next_step", "target_from_settings"]


@dataclass(frozen=True, slots=True)
class CalibrationTarget:
    """The model, measures and weights of a tariff, and the file to write.

    ``private`` are files of measures, which may hold training inputs. ``coordinates``: of the settings; () for the default.
    ``loaded`` are the gateway's settings, or None.
    """

    model: str
    tariff: Path
    measures: tuple[str, ...]
    weights: tuple[float, ...] | None = None
    private: tuple[Path, ...] = ()
    coordinates: tuple[str, ...] = ()
    loaded: Any = None


def target_from_settings(
    settings: Path | None, model: str | None, leaks: Path | None, tariff: Path | None, measures: str | None
) -> CalibrationTarget:
    """The target from a settings file, or from recorded leaks alone.

    Raises:
        SettingsError: the options contradict each other, or name a model that does not exist.
    """
    from modeltoll.gateway.settings.load import load_settings  # noqa: PLC0415
    from modeltoll.pricing.leak_samples import measures_of  # noqa: PLC0415

    if settings is None:
        if leaks is None or tariff is None:
            raise SettingsError(["calibrate: without settings, give --leaks and --out"])
        names, weights = _weighted(measures) if measures else (_priced(measures_of(leaks)), None)
        return CalibrationTarget(model or leaks.stem, tariff, names, weights)
    if measures is not None:
        raise SettingsError(["--measures: the settings say which measures there are; leave it out"])
    loaded = load_settings(settings)
    name = _one_model(loaded.models, model)
    chosen = loaded.models[name]
    names = tuple(measure.name for measure in chosen.measures)
    private = tuple(measure.file for measure in chosen.measures if measure.file)
    return CalibrationTarget(name, tariff or chosen.tariff, names, chosen.weights, private, chosen.coordinates, loaded)


def next_step(target: CalibrationTarget, settings: Path | None) -> str:
    """What an operator does with a new tariff, to be said after its name; empty where the model charges already."""
    if target.loaded is None or target.loaded.models[target.model].mode != "shadow":
        return ""
    return f". Next: mode: enforce for {target.model} in {settings}, which a running gateway reads, or modeltoll serve {settings}"


def _priced(recorded: tuple[str, ...]) -> tuple[str, ...]:
    """The recorded measures but those that are others fitted without kinds."""
    clean = set(map(clean_name, recorded))
    return tuple(name for name in recorded if name not in clean)


def _weighted(text: str) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Names of measures and weights that sum to 1, from a text such as ``entropy,novelty=2``."""
    names: dict[str, float] = {}
    for part in text.split(","):
        name, _, number = part.strip().partition("=")
        try:
            weight = float(number or 1.0)
        except ValueError:
            weight = math.nan
        if name in names or not 0.0 < weight < math.inf:
            raise SettingsError([f"--measures: {part!r} is not a measure, or a measure and its weight: novelty=2"])
        names[name] = weight
    total = sum(names.values())
    return tuple(names), tuple(weight / total for weight in names.values())


def _one_model(models: Mapping[str, Any], requested: str | None) -> str:
    if requested is None and len(models) != 1:
        raise SettingsError([f"--model: the settings list several; choose one of {', '.join(models)}"])
    if requested is not None and requested not in models:
        raise SettingsError([f"--model: there is no {requested!r}; there are: {', '.join(models)}"])
    return requested or next(iter(models))
