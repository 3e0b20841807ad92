"""From what a command says to a simulation: which tariffs, whose times, which honest scores."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from modeltoll.errors import CalibrationError, SettingsError
from modeltoll.pricing.calibration_file import load_calibration
from modeltoll.pricing.conformal import ConformalTariff
from modeltoll.pricing.leak_samples import CALIBRATION, HONEST
from modeltoll.pricing.published import PublishedTariff, PublishedTerms, StandardLine
from modeltoll.simulation.attack_traces import fit_standard, read_trace, replay_modes
from modeltoll.simulation.batch_tariffs import ConformalBatchTariff, PublishedBatchTariff
from modeltoll.simulation.scenarios import Times

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from modeltoll.records import Leaks
    from modeltoll.simulation.attack_traces import ModeCost
    from modeltoll.simulation.batch_tariffs import BatchTariff

__all__ = [
    "PUBLISHED",
    "PublishedTollOptions",
    "SimulationInputs",
    "TimeOptions",
    "load_inputs",
    "parse_counts",
    "parse_numbers",
    "replay_trace",
]

PUBLISHED = "published"  # the name that a command gives to the published tariff; others are files


@dataclass(frozen=True, slots=True, eq=False)
class SimulationInputs:
    """The tariffs to compare, and the seconds of a row."""

    tolls: tuple[BatchTariff, ...]
    times: Times


@dataclass(frozen=True, slots=True)
class PublishedTollOptions:
    """What the published tariff is to price: one of the recorded measures (None: the first), on which terms."""

    measure: str | None
    terms: PublishedTerms


@dataclass(frozen=True, slots=True)
class TimeOptions:
    """Seconds of a row without a gateway, and of the gateway's own work on it; None where a tariff may know."""

    undefended: float | None
    gate: float | None


def parse_numbers(text: str, option: str) -> tuple[float, ...]:
    """A list such as ``1,10,100`` of numbers above 0, ascending; nothing is an empty list.

    Raises:
        SettingsError: it is no such list.
    """
    try:
        values = sorted({float(part) for part in text.split(",") if part.strip()})
    except ValueError:
        values = [math.nan]
    if not all(0.0 < value < 1e9 for value in values):
        raise SettingsError([f"{option}: {text!r} is not a list of numbers above 0, such as 1,10,100"])
    return tuple(values)


def parse_counts(text: str, option: str) -> tuple[int, ...]:
    """The same of whole numbers."""
    values = parse_numbers(text, option)
    if any(value != int(value) for value in values):
        raise SettingsError([f"{option}: {text!r} is not a list of whole numbers, such as 1,10,100"])
    return tuple(int(value) for value in values)


def replay_trace(trace: Path, standard: Path | None, tariffs: Sequence[str], terms: PublishedTerms) -> list[ModeCost]:
    """What the published tariff charges for recorded attacks.

    Raises:
        SettingsError: another tariff is asked for, or no standard user. CalibrationError: a trace cannot be used.
    """
    if list(tariffs) != [PUBLISHED]:
        raise SettingsError(
            [
                "--tariff: a trace holds totals, which only 'published' can price; other tariffs need an .npz file of leaks"
            ]
        )
    if standard is None:
        raise SettingsError(["--standard: give the standard user's trace, to which the published tariff compares"])
    return replay_modes(read_trace(trace), fit_standard(standard), terms)


def _published(honest: Leaks, wanted: PublishedTollOptions) -> PublishedBatchTariff:
    """The published tariff on one measure, its standard user leaking what honest rows leak on average."""
    chosen = wanted.measure or honest.measures[0]
    if chosen not in honest.measures:
        raise SettingsError([f"--measure: the leaks are of {', '.join(honest.measures)}, not of {chosen}"])
    slope = float(honest.values[:, honest.measures.index(chosen)].mean())
    return PublishedBatchTariff(PublishedTariff(chosen, StandardLine(slope, 0.0), wanted.terms), honest.measures)


def _times(given: TimeOptions, conformal: Sequence[ConformalBatchTariff]) -> Times:
    """Seconds of a row: as given, else as the first tariff was calibrated, else its unit as if it were all overhead."""
    undefended, gate = given.undefended, given.gate
    if conformal:
        calibration = conformal[0].tariff.calibration
        known = calibration.undefended_seconds > 0.0
        undefended = undefended or (calibration.undefended_seconds if known else calibration.unit_seconds)
        gate = (calibration.gate_seconds if known else 0.0) if gate is None else gate
    if undefended is None:
        raise SettingsError(["--undefended-ms: say how long a row takes without a gateway; this tariff does not"])
    return Times(undefended, gate or 0.0)


def load_inputs(
    tariffs: Sequence[str], samples: Mapping[str, Leaks], published: PublishedTollOptions, given: TimeOptions
) -> SimulationInputs:
    """Everything but the plan.

    Raises:
        SettingsError: a choice that cannot be. CalibrationError: a tariff that cannot be read or prices measures that
            were not recorded, or samples without honest rows.
    """
    if HONEST not in samples:
        raise CalibrationError(f"a sample called {HONEST!r} is needed; there are: {', '.join(samples)}")
    honest = samples[HONEST]
    files = {name: load_calibration(Path(name)) for name in tariffs if name != PUBLISHED}
    tolls: list[BatchTariff] = []
    for name in dict.fromkeys(tariffs):
        if name == PUBLISHED:
            tolls.append(_published(samples.get(CALIBRATION, honest), published))
        else:
            title = "conformal" if len(files) == 1 else Path(name).stem
            tolls.append(ConformalBatchTariff(ConformalTariff(files[name]), honest.measures, title))
    return SimulationInputs(
        tuple(tolls), _times(given, [toll for toll in tolls if isinstance(toll, ConformalBatchTariff)])
    )
