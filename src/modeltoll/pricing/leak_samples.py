"""Recorded leaks: files of samples, a ledger's log, and the exclusion of unsuitable inputs.

A file of samples is an .npz archive with the names of the measures in ``measures``, and one array (rows, measures) per
sample. ``calibration`` and ``honest`` are honest rows, for fitting a tariff and for testing it; ``kind:NAME`` are honest
rows of a declared kind; every other sample is of a thief. Of a sample NAME the array ``NAME.classes`` (rows,) has the
predicted classes and ``NAME.callers`` (rows,) the callers' names, where they are known. A measure that was fitted with
kinds may be recorded beside the same measure fitted without them, as ``novelty`` and ``novelty:clean``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from modeltoll.errors import CalibrationError, SettingsError
from modeltoll.files import read_arrays, replacing
from modeltoll.names import clean_name
from modeltoll.records import Leaks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from modeltoll.records import Bools, Floats, Integers

__all__ = [
    "CALIBRATION",
    "HONEST",
    "KIND",
    "clean_values",
    "count_training_rows",
    "declared_samples",
    "first_occurrences",
    "leak_columns",
    "measures_of",
    "parse_leaks",
    "read_callers",
    "read_leaks",
    "rows_of",
    "save_leaks",
    "select_measures",
    "thief_samples",
    "with_clean",
]

CALIBRATION, HONEST = "calibration", "honest"
KIND = "kind:"  # begins the name of a sample of a declared kind
_MEASURES, _CLASSES, _CALLERS = "measures", ".classes", ".callers"


def save_leaks(
    path: Path,
    measures: tuple[str, ...],
    samples: Mapping[str, Floats | Leaks],
    callers: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Write a file of samples, each of shape (rows, measures), or as ``Leaks`` of these measures with their classes.

    ``callers``: by sample, the caller of each row.
    """
    arrays: dict[str, NDArray[Any]] = {_MEASURES: np.array(measures)}
    for name, sample in samples.items():
        arrays[name] = sample.values if isinstance(sample, Leaks) else sample
        if isinstance(sample, Leaks) and sample.classes is not None:
            arrays[name + _CLASSES] = sample.classes
    arrays |= {name + _CALLERS: np.array(names, dtype=np.str_) for name, names in (callers or {}).items()}
    with replacing(path) as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def _sample(name: str, array: NDArray[Any], measures: tuple[str, ...], classes: NDArray[Any] | None) -> Leaks:
    values = array[:, None] if array.ndim == 1 else array
    if values.dtype.kind not in "fiu" or values.ndim != 2 or values.shape[1] != len(measures) or not len(values):
        raise CalibrationError(f"sample {name!r} must hold numbers of shape (rows, {len(measures)})")
    values = values.astype(np.float64)
    if not np.isfinite(values).all() or (values < 0.0).any():
        raise CalibrationError(f"sample {name!r} holds leaks that are negative or not finite")
    if classes is None:
        return Leaks(measures, values)
    if classes.dtype.kind not in "iu" or classes.shape != (len(values),):
        raise CalibrationError(f"{name + _CLASSES!r} must hold one integer per row of {name!r}")
    return Leaks(measures, values, classes.astype(np.int64))


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
    rows = {name: array for name, array in arrays.items() if not name.endswith((_CLASSES, _CALLERS))}
    try:
        samples = {name: _sample(name, array, measures, arrays.get(name + _CLASSES)) for name, array in rows.items()}
    except CalibrationError as error:
        raise CalibrationError(f"{path}: {error}") from None
    if not samples:
        raise CalibrationError(f"{path} holds no samples")
    return samples


def read_callers(path: Path, sample: str, rows: int) -> tuple[str, ...] | None:
    """The caller of each of the ``rows`` rows of a sample; None where the file does not name them.

    Raises:
        CalibrationError: the file cannot be read, or does not name one caller per row.
    """
    found = read_arrays(path).get(sample + _CALLERS)
    if found is None:
        return None
    if found.dtype.kind != "U" or found.shape != (rows,):
        raise CalibrationError(f"{path}: {sample + _CALLERS!r} must hold one name per row of {sample!r}")
    return tuple(str(name) for name in found)


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
    return Leaks(wanted, leaks.values[:, leak_columns(leaks.measures, wanted)], leaks.classes)


def rows_of(leaks: Leaks, rows: Integers | Bools) -> Leaks:
    """Some of the rows, by number or by truth value, with their classes."""
    return Leaks(leaks.measures, leaks.values[rows], None if leaks.classes is None else leaks.classes[rows])


def with_clean(recorded: tuple[str, ...], wanted: tuple[str, ...]) -> tuple[str, ...]:
    """The wanted measures, and after them those recorded ones that are the same fitted without kinds."""
    return (*wanted, *(clean for name in wanted if (clean := clean_name(name)) in recorded))


def clean_values(leaks: Leaks, wanted: tuple[str, ...]) -> Floats | None:
    """The leaks (rows, measures) by the wanted measures fitted without kinds, or by themselves where that is the same.

    None where none was recorded. Raises as ``leak_columns`` does.
    """
    names = tuple(clean if (clean := clean_name(name)) in leaks.measures else name for name in wanted)
    return None if names == wanted else leaks.values[:, leak_columns(leaks.measures, names)]


def thief_samples(path: Path) -> dict[str, Leaks]:
    """The samples of thieves in a file, by name. Raises as ``read_leaks`` does, and if there are none."""
    samples = read_leaks(path)
    thieves = {name: sample for name, sample in samples.items() if not _honest(name)}
    if not thieves:
        raise CalibrationError(f"{path} holds no thieves' samples, only honest ones")
    return thieves


def declared_samples(path: Path) -> dict[str, Leaks]:
    """The samples of declared kinds in a file, by the name after ``kind:``; may be none. Raises as ``read_leaks`` does."""
    samples = read_leaks(path).items()
    return {name.removeprefix(KIND): sample for name, sample in samples if name.startswith(KIND)}


def _honest(sample: str) -> bool:
    return sample in {CALIBRATION, HONEST} or sample.startswith(KIND)


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
