"""Turn the arguments of a command into the inputs of a simulation: tariffs and times."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from modeltoll.errors import CalibrationError, SettingsError
from modeltoll.pricing.calibration_file import load_calibration
from modeltoll.pricing.conformal_tariff import ConformalTariff
from modeltoll.pricing.leak_samples import CALIBRATION, HONEST
from modeltoll.pricing.published_tariff import PublishedTariff, PublishedTerms, StandardLine
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

PUBLISHED = "published"  # the command's name of the published tariff; other names are files


@dataclass(frozen=True, slots=True, eq=False)
class SimulationInputs:
    """The tariffs to compare, and the seconds per row."""

    tariffs: tuple[BatchTariff, ...]
    times: Times


@dataclass(frozen=True, slots=True)
class PublishedTollOptions:
    """Options of the published tariff: the measure that it prices (None for the first one) and its terms."""

    measure: str | None
    terms: PublishedTerms


@dataclass(frozen=True, slots=True)
class TimeOptions:
    """Seconds per row without a gateway, and of the gateway itself; None to take them from a tariff."""

    undefended: float | None
    gate: float | None


def parse_numbers(text: str, option: str) -> tuple[float, ...]:
    """Parse a list of numbers above 0 such as ``1,10,100``; returns them ascending, without repetitions.

    Raises:
        SettingsError: not such a list; the message names ``option``.
    """
    try:
        values = sorted({float(part) for part in text.split(",") if part.strip()})
    except ValueError:
        values = [math.nan]
    if not all(0.0 < value < 1e9 for value in values):
        raise SettingsError([f"{option}: {text!r} is not a list of numbers above 0, such as 1,10,100"])
    return tuple(values)


def parse_counts(text: str, option: str) -> tuple[int, ...]:
    """``parse_numbers`` for whole numbers."""
    values = parse_numbers(text, option)
    if any(value != int(value) for value in values):
        raise SettingsError([f"{option}: {text!r} is not a list of whole numbers, such as 1,10,100"])
    return tuple(int(value) for value in values)


def replay_trace(trace: Path, standard: Path | None, tariffs: Sequence[str], terms: PublishedTerms) -> list[ModeCost]:
    """The cost of recorded attacks under the published tariff.

    Raises:
        SettingsError: another tariff is given, or no trace of a standard user.
        CalibrationError: a trace cannot be used.
    """
    if list(tariffs) != [PUBLISHED]:
        raise SettingsError(
            ["--tariff: a trace has totals, which only 'published' can price; other tariffs need an .npz file of leaks"]
        )
    if standard is None:
        raise SettingsError(["--standard: give the standard user's trace, to which the published tariff compares"])
    return replay_modes(read_trace(trace), fit_standard(standard), terms)


def _published(honest: Leaks, options: PublishedTollOptions) -> PublishedBatchTariff:
    """The published tariff on one measure; the standard user has the mean leak of honest rows."""
    chosen = options.measure or honest.measures[0]
    if chosen not in honest.measures:
        raise SettingsError([f"--measure: the leaks are of {', '.join(honest.measures)}, not of {chosen}"])
    slope = float(honest.values[:, honest.measures.index(chosen)].mean())
    return PublishedBatchTariff(PublishedTariff(chosen, StandardLine(slope, 0.0), options.terms), honest.measures)


def _times(given: TimeOptions, conformal: Sequence[ConformalBatchTariff]) -> Times:
    """Seconds per row: as given, else those of the first tariff's calibration, else its unit."""
    undefended, gate = given.undefended, given.gate
    if conformal:
        calibration = conformal[0].tariff.calibration
        known = calibration.undefended_seconds > 0.0
        undefended = undefended or (calibration.undefended_seconds if known else calibration.unit_seconds)
        gate = (calibration.gate_seconds if known else 0.0) if gate is None else gate
    if undefended is None:
        raise SettingsError(["--undefended-ms: give the time of a row without a gateway; this tariff does not have it"])
    return Times(undefended, gate or 0.0)


def load_inputs(
    tariffs: Sequence[str], samples: Mapping[str, Leaks], published: PublishedTollOptions, given: TimeOptions
) -> SimulationInputs:
    """The inputs of a simulation, except for its plan.

    Args:
        tariffs: ``PUBLISHED``, or paths of calibration files.
        samples: recorded leaks by name; ``honest`` is required.
        published: options of the published tariff.
        given: seconds per row.

    Raises:
        SettingsError: an invalid option.
        CalibrationError: a tariff cannot be read or prices measures that were not recorded, or honest rows are missing.
    """
    if HONEST not in samples:
        raise CalibrationError(f"a sample called {HONEST!r} is needed; there are: {', '.join(samples)}")
    honest = samples[HONEST]
    files = {name: load_calibration(Path(name)) for name in tariffs if name != PUBLISHED}
    found: list[BatchTariff] = []
    for name in dict.fromkeys(tariffs):
        if name == PUBLISHED:
            found.append(_published(samples.get(CALIBRATION, honest), published))
        else:
            title = "conformal" if len(files) == 1 else Path(name).stem
            found.append(ConformalBatchTariff(ConformalTariff(files[name]), honest.measures, title))
    return SimulationInputs(
        tuple(found), _times(given, [tariff for tariff in found if isinstance(tariff, ConformalBatchTariff)])
    )
