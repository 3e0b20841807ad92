"""Recorded leaks: files of samples, a ledger's log, and the exclusion of unsuitable inputs.

A file of samples is an .npz archive with the names of the measures in ``measures``, and one array (rows, measures) per
sample. ``calibration`` and ``honest`` are honest rows, for fitting a tariff and for testing it; every other sample is
of a thief.
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
    "count_training_rows",
    "first_occurrences",
    "leak_columns",
    "leaks_of_log",
    "measures_of",
    "parse_leaks",
    "read_leaks",
    "save_leaks",
    "select_measures",
    "thief_samples",
]

CALIBRATION, HONEST = "calibration", "honest"
_MEASURES = "measures"
_LARGE_SHARE = 0.25  # of the logged rows; a caller with more of them dominates the tariff


def save_leaks(path: Path, measures: tuple[str, ...], samples: Mapping[str, Floats]) -> None:
    """Write a file of samples, each of shape (rows, measures)."""
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
    """Read a file of samples; returns the leaks by sample name.

    Raises:
        CalibrationError: the file cannot be read, lacks the measures' names, or a sample is not of finite leaks >= 0.
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
    """The names of the measures in a file of samples. Raises as ``read_leaks`` does."""
    return next(iter(read_leaks(path).values())).measures


def leak_columns(recorded: tuple[str, ...], wanted: tuple[str, ...]) -> list[int]:
    """The column indices of the wanted measures among the recorded ones.

    Raises:
        CalibrationError: a wanted measure was not recorded.
    """
    missing = [name for name in wanted if name not in recorded]
    if missing:
        raise CalibrationError(
            f"leaks of {', '.join(missing)} were not recorded; there are those of {', '.join(recorded)}"
        )
    return [recorded.index(name) for name in wanted]


def select_measures(leaks: Leaks, wanted: tuple[str, ...]) -> Leaks:
    """The leaks of the wanted measures, in that order. Raises as ``leak_columns`` does."""
    return Leaks(wanted, leaks.values[:, leak_columns(leaks.measures, wanted)])


def thief_samples(path: Path) -> dict[str, Leaks]:
    """The samples of thieves in a file, by name. Raises as ``read_leaks`` does, and if there are none."""
    thieves = {name: leaks for name, leaks in read_leaks(path).items() if name not in (CALIBRATION, HONEST)}
    if not thieves:
        raise CalibrationError(f"{path} holds no thieves' samples, only honest ones")
    return thieves


def parse_leaks(texts: Sequence[str], measures: tuple[str, ...]) -> Leaks:
    """Parse one row of leaks from texts such as ``entropy=0.4``, one for each measure.

    Raises:
        SettingsError: a text has another form, or a measure is missing, unknown or given twice.
    """
    parsed: dict[str, float] = {}
    for text in texts:
        name, _, number = text.partition("=")
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if name in parsed or not 0.0 <= value < math.inf:
            raise SettingsError([f"{text!r}: write MEASURE=LEAK, a number of 0 or more, once for each measure"])
        parsed[name] = value
    if set(parsed) != set(measures):
        raise SettingsError([f"a row needs the leaks of {', '.join(measures)}, and no others"])
    return Leaks(measures, np.array([[parsed[name] for name in measures]]))


@dataclass(frozen=True, slots=True, eq=False)
class LoggedLeaks:
    """The leaks of one model in a ledger's log; ``warnings`` are reasons to doubt that the rows are honest."""

    leaks: Leaks
    warnings: tuple[str, ...]


def leaks_of_log(
    lines: Iterable[tuple[int, str, LogEntry]], model: str, measures: tuple[str, ...], mode: str
) -> LoggedLeaks:
    """The leaks of the rows that a model answered in one mode, from lines as ``Ledger.log`` returns them.

    Raises:
        CalibrationError: no line has these measures.
    """
    entries = [(caller, entry) for _, caller, entry in lines if (entry.model, entry.mode) == (model, mode)]
    wanted = [(caller, entry) for caller, entry in entries if entry.measures == measures]
    if not wanted:
        found = sorted({", ".join(entry.measures) for _, entry in entries})
        what = f"; those there have leaks of {' or of '.join(found)}" if found else ""
        raise CalibrationError(
            f"the log holds no rows of {model!r} in {mode} mode with leaks of {', '.join(measures)}{what}"
        )
    values = np.array([row for _, entry in wanted for row in entry.leaks], dtype=np.float64)
    rows: Counter[str] = Counter()
    suspected: Counter[str] = Counter()
    for caller, entry in wanted:
        rows[caller] += entry.rows
        suspected[caller] += entry.rows * entry.work.suspected
    warnings = []
    caller, most = rows.most_common(1)[0]
    if len(rows) > 1 and most > _LARGE_SHARE * len(values):
        warnings.append(f"caller {caller} sent {most} of the {len(values)} rows; the tariff takes them for honest")
    if suspect := suspected.total():
        warnings.append(f"{suspect} of the {len(values)} rows came from callers under suspicion; look at them first")
    return LoggedLeaks(Leaks(measures, values), tuple(warnings))


def first_occurrences(inputs: Floats) -> Integers:
    """The indices of the first occurrence of each distinct row of (rows, dimensions), ascending."""
    indices: dict[bytes, int] = {}
    for index, row in enumerate(np.ascontiguousarray(inputs + 0.0)):
        indices.setdefault(row.tobytes(), index)
    return np.fromiter(indices.values(), np.int64, len(indices))


def count_training_rows(inputs: Floats, private: Floats) -> int:
    """The number of rows of (rows, dimensions) that occur exactly among the private rows (n, dimensions)."""
    if inputs.shape[1] != private.shape[1]:
        return 0
    known = {row.tobytes() for row in np.ascontiguousarray(private + 0.0)}
    return sum(row.tobytes() in known for row in np.ascontiguousarray(inputs + 0.0))
