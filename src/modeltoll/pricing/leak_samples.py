"""Leaks that were recorded: in a file of samples, or in a ledger's log. And inputs that must not be among them.

A file of samples is an .npz archive: ``measures``, the measures' names, and beside it one array (rows, measures) per
sample. ``calibration`` and ``honest`` are honest rows, the first for making a tariff, the second for trying it; every
other name is a thief's.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from modeltoll.errors import CalibrationError, SettingsError
from modeltoll.files import read_arrays, replacing
from modeltoll.records import Leaks

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from modeltoll.records import Floats, Integers, LogEntry

__all__ = [
    "CALIBRATION",
    "HONEST",
    "LoggedLeaks",
    "first_places",
    "leak_columns",
    "leaks_from_json",
    "leaks_of_log",
    "measures_of",
    "read_leaks",
    "save_leaks",
    "select_measures",
    "thieves_of",
    "trained_on",
]

CALIBRATION, HONEST = "calibration", "honest"
_MEASURES = "measures"
_LARGE_SHARE = 0.25  # of the logged rows; a caller with more of them shapes the tariff


def save_leaks(path: Path, measures: tuple[str, ...], samples: Mapping[str, Floats]) -> None:
    """Write a file of samples, each (rows, measures)."""
    with replacing(path) as file:
        np.savez_compressed(file, allow_pickle=False, **{_MEASURES: np.array(measures)}, **samples)


def _sample(name: str, array: NDArray[Any], measures: tuple[str, ...]) -> Leaks:
    values = array[:, None] if array.ndim == 1 else array
    if values.dtype.kind not in "fiu" or values.ndim != 2 or values.shape[1] != len(measures) or not len(values):
        raise CalibrationError(f"sample {name!r} must hold numbers of shape (rows, {len(measures)})")
    values = values.astype(np.float64)
    if not np.isfinite(values).all() or (values < 0.0).any():
        raise CalibrationError(f"sample {name!r} holds leaks that are negative or not finite")
    return Leaks(measures, values)


def read_leaks(path: Path) -> dict[str, Leaks]:
    """The samples of a file, by name.

    Raises:
        CalibrationError: it cannot be read, names no measures, or a sample is not finite leaks >= 0 of theirs.
    """
    arrays = read_arrays(path)
    named = arrays.pop(_MEASURES, None)
    if named is None or named.dtype.kind != "U" or not named.size:
        raise CalibrationError(f"{path} must hold 'measures', the measures' names")
    measures = tuple(str(name) for name in np.atleast_1d(named))
    try:
        samples = {name: _sample(name, array, measures) for name, array in arrays.items()}
    except CalibrationError as error:
        raise CalibrationError(f"{path}: {error}") from None
    if not samples:
        raise CalibrationError(f"{path} holds no samples")
    return samples


def measures_of(path: Path) -> tuple[str, ...]:
    """The measures of a file of samples. Raises as ``read_leaks`` does."""
    return next(iter(read_leaks(path).values())).measures


def leak_columns(recorded: tuple[str, ...], wanted: tuple[str, ...]) -> list[int]:
    """Where the wanted measures stand among the recorded ones.

    Raises:
        CalibrationError: one of them was not recorded.
    """
    missing = [name for name in wanted if name not in recorded]
    if missing:
        raise CalibrationError(
            f"leaks of {', '.join(missing)} were not recorded; there are those of {', '.join(recorded)}"
        )
    return [recorded.index(name) for name in wanted]


def select_measures(leaks: Leaks, wanted: tuple[str, ...]) -> Leaks:
    """Only the wanted measures' leaks. Raises as ``leak_columns`` does."""
    return Leaks(wanted, leaks.values[:, leak_columns(leaks.measures, wanted)])


def thieves_of(path: Path) -> dict[str, Leaks]:
    """The thieves' samples of a file. Raises as ``read_leaks`` does, and where there are none."""
    thieves = {name: leaks for name, leaks in read_leaks(path).items() if name not in (CALIBRATION, HONEST)}
    if not thieves:
        raise CalibrationError(f"{path} holds no thieves' samples, only honest ones")
    return thieves


def leaks_from_json(texts: Sequence[str], measures: tuple[str, ...]) -> Leaks:
    """One row from texts such as ``entropy=0.4``, one for each measure.

    Raises:
        SettingsError: a text is no such thing, or a measure is missing, unknown or given twice.
    """
    stated: dict[str, float] = {}
    for text in texts:
        name, _, number = text.partition("=")
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if name in stated or not 0.0 <= value < math.inf:
            raise SettingsError([f"{text!r}: write MEASURE=LEAK, a number of 0 or more, once for each measure"])
        stated[name] = value
    if set(stated) != set(measures):
        raise SettingsError([f"a row needs the leaks of {', '.join(measures)}, and no others"])
    return Leaks(measures, np.array([[stated[name] for name in measures]]))


@dataclass(frozen=True, slots=True, eq=False)
class LoggedLeaks:
    """What a ledger's log says of one model's rows; ``warnings`` are what to know before they are called honest."""

    leaks: Leaks
    warnings: tuple[str, ...]


def leaks_of_log(
    lines: Iterable[tuple[int, str, LogEntry]], model: str, measures: tuple[str, ...], mode: str
) -> LoggedLeaks:
    """The rows that a model answered in one mode, from lines as ``Ledger.log`` gives them.

    Raises:
        CalibrationError: there are none with these measures.
    """
    bills = [(caller, bill) for _, caller, bill in lines if (bill.model, bill.mode) == (model, mode)]
    wanted = [(caller, bill) for caller, bill in bills if bill.measures == measures]
    if not wanted:
        found = sorted({", ".join(bill.measures) for _, bill in bills})
        what = f"; those there have leaks of {' or of '.join(found)}" if found else ""
        raise CalibrationError(
            f"the log holds no rows of {model!r} in {mode} mode with leaks of {', '.join(measures)}{what}"
        )
    values = np.array([row for _, bill in wanted for row in bill.leaks], dtype=np.float64)
    rows: Counter[str] = Counter()
    suspected: Counter[str] = Counter()
    for caller, bill in wanted:
        rows[caller] += bill.rows
        suspected[caller] += bill.rows * bill.work.suspected
    warnings = []
    caller, most = rows.most_common(1)[0]
    if len(rows) > 1 and most > _LARGE_SHARE * len(values):
        warnings.append(f"caller {caller} sent {most} of the {len(values)} rows; the tariff takes him for honest")
    if suspect := suspected.total():
        warnings.append(f"{suspect} of the {len(values)} rows came from callers under suspicion; look at them first")
    return LoggedLeaks(Leaks(measures, values), tuple(warnings))


def first_places(inputs: Floats) -> Integers:
    """Where each different row of (rows, dimensions) stands for the first time, ascending."""
    places: dict[bytes, int] = {}
    for place, row in enumerate(np.ascontiguousarray(inputs + 0.0)):
        places.setdefault(row.tobytes(), place)
    return np.fromiter(places.values(), np.int64, len(places))


def trained_on(inputs: Floats, private: Floats) -> int:
    """How many rows of (rows, dimensions) are, number for number, among the private rows (n, dimensions)."""
    if inputs.shape[1] != private.shape[1]:
        return 0
    known = {row.tobytes() for row in np.ascontiguousarray(private + 0.0)}
    return sum(row.tobytes() in known for row in np.ascontiguousarray(inputs + 0.0))
