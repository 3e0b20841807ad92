"""Reads rows of files: .npy, .npz, CSV, JSON lines, JSON, Parquet; and recorded requests, one body per line."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np

from modeltoll.errors import CalibrationError, SettingsError
from modeltoll.files import read_array, read_arrays
from modeltoll.gateway.setup.row_table import RecordedRequests, RowTable

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["FORMATS", "read_requests", "read_table"]

FORMATS = ".npy, .npz, .csv, .tsv, .jsonl, .json or .parquet"
_INPUTS, _CALLERS = "inputs", "callers"
_DELIMITERS = ",;\t|"
_NO_NUMBER = frozenset(("", "na", "n/a", "nan", "null", "none", "?"))  # in a column of numbers: a missing value
_TRUTHS = {"true": True, "false": False}

Named = list[tuple[str, Sequence[Any]]]


def read_table(path: Path) -> RowTable:
    """The rows of a file. A column, member or array called ``callers`` names the caller of each row.

    Raises:
        CalibrationError: the file cannot be read, is of no known format, or holds no rows.
        SettingsError: it needs a package that is not installed.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise CalibrationError(
            f"{path}: rows are read from {FORMATS}, not from {path.suffix or 'a file without suffix'}"
        )
    table = reader(path)
    if not table.numbers.size:
        raise CalibrationError(f"{path} holds no rows")
    if np.isinf(table.numbers).any():
        raise CalibrationError(f"{path} holds a number that is infinite")
    return table


def read_requests(path: Path) -> RecordedRequests:
    """Recorded requests: one body, in JSON, per line.

    Raises:
        CalibrationError: the file cannot be read, holds none, or a line is not JSON.
    """
    lines, bodies = [], []
    for number, line in enumerate(_bytes(path).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            json.loads(line)
        except (ValueError, RecursionError) as error:
            raise CalibrationError(f"{path}, line {number}: not JSON: {error}") from None
        lines.append(number)
        bodies.append(line)
    if not bodies:
        raise CalibrationError(f"{path} holds no requests")
    return RecordedRequests(tuple(bodies), str(path), tuple(lines))


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CalibrationError(f"{path} cannot be read: {error.strerror}") from None


def _text(path: Path) -> str:
    try:
        return _bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise CalibrationError(f"{path} cannot be read: it is not UTF-8") from None


def _with_callers(named: Named, path: Path, unit: str, lines: Sequence[int]) -> RowTable:
    """A table of the columns but ``callers``, which names the callers."""
    if len({name for name, _ in named}) != len(named) and any(name for name, _ in named):
        raise CalibrationError(f"{path} has a column twice")
    columns = [each for each in named if each[0] != _CALLERS]
    if not columns or not lines:
        raise CalibrationError(f"{path} holds no rows")
    table = RowTable.of_columns(columns, str(path), unit, lines)
    callers = next((values for name, values in named if name == _CALLERS), None)
    return (
        table if callers is None else replace(table, callers=tuple("" if one is None else str(one) for one in callers))
    )


# Arrays


def _npy(path: Path) -> RowTable:
    return _of_array(read_array(path), path)


def _npz(path: Path) -> RowTable:
    """``inputs`` and perhaps ``callers``; or else one array for each column."""
    arrays = read_arrays(path)
    callers = arrays.get(_CALLERS)
    if _INPUTS in arrays:
        table = _of_array(arrays[_INPUTS], path)
        if callers is None:
            return table
        if callers.dtype.kind != "U" or callers.shape != (len(table),):
            raise CalibrationError(f"{path}: {_CALLERS!r} must hold one name per row of {_INPUTS!r}")
        return replace(table, callers=tuple(map(str, callers)))
    if len({array.shape for array in arrays.values()}) != 1 or next(iter(arrays.values())).ndim != 1:
        raise CalibrationError(f"{path} holds neither {_INPUTS!r} nor one array of the same length for each column")
    named: Named = [(name, array.tolist()) for name, array in arrays.items()]
    return _with_callers(named, path, "row", range(1, 1 + len(named[0][1])))


def _of_array(array: NDArray[Any], path: Path) -> RowTable:
    if array.dtype.kind == "U" and array.ndim == 1 and array.size:
        return RowTable.of_columns([("", array.tolist())], str(path), "row", range(1, 1 + len(array)))
    if array.dtype.kind not in "fiub" or array.ndim < 2 or not array.size:
        raise CalibrationError(f"{path} does not hold one row of numbers, or one text, per input")
    return RowTable.of_numbers(array.astype(np.float64), str(path))


# Text


def _csv(path: Path) -> RowTable:
    """With a heading, unless every field of the first line is a number."""
    text = _text(path)
    first = text.partition("\n")[0]
    delimiter = max(_DELIMITERS, key=first.count)
    reader, lines, records, before = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True), [], [], 0
    try:
        for record in reader:
            if record:
                lines.append(before + 1)
                records.append(record)
            before = reader.line_num
    except csv.Error as error:
        raise CalibrationError(f"{path}, line {before + 1}: {error}") from None
    if not records:
        raise CalibrationError(f"{path} holds no rows")
    headed = not all(map(_is_number, records[0]))
    names = [name.strip() for name in records[0]] if headed else [""] * len(records[0])
    if headed:
        records, lines = records[1:], lines[1:]
    for line, record in zip(lines, records, strict=True):
        if len(record) != len(names):
            raise CalibrationError(f"{path}, line {line}: {len(record)} fields where there are {len(names)} columns")
    columns = zip(*records, strict=True) if records else ()
    return _with_callers([(name, _typed(c)) for name, c in zip(names, columns, strict=False)], path, "line", lines)


def _is_number(field: str) -> bool:
    try:
        return math.isfinite(float(field))
    except ValueError:
        return False


def _typed(fields: Sequence[str]) -> list[Any]:
    """A column's values: whole numbers, numbers, truths or texts; an empty field is missing.

    Digits that begin with a zero, such as postcodes, are texts. Where all others are numbers, so are NA, NaN, null and ?.
    """
    given = [field.strip() for field in fields if field.strip().lower() not in _NO_NUMBER]
    coded = any(field.lstrip("+-")[:1] == "0" and field.lstrip("+-")[1:2].isdigit() for field in given)
    if given and not coded and all(map(_is_number, given)):
        whole = all(field.lstrip("+-").isdigit() for field in given)
        return [
            None if field.strip().lower() in _NO_NUMBER else int(field) if whole else float(field) for field in fields
        ]
    if all(field.strip().lower() in _TRUTHS for field in fields if field):
        return [_TRUTHS[field.strip().lower()] if field else None for field in fields]
    return [field or None for field in fields]


def _json_lines(path: Path) -> RowTable:
    lines, rows = [], []
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if line.strip():
            lines.append(number)
            rows.append(_parsed(line, f"{path}, line {number}"))
    return _of_json(rows, path, "line", lines)


def _json(path: Path) -> RowTable:
    rows = _parsed(_text(path), str(path))
    if not isinstance(rows, list):
        raise CalibrationError(f"{path} does not hold a list of rows")
    return _of_json(rows, path, "row", range(1, 1 + len(rows)))


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CalibrationError(f"{where}: not JSON: {error}") from None


def _of_json(rows: Sequence[Any], path: Path, unit: str, lines: Sequence[int]) -> RowTable:
    """Rows that are objects of columns, arrays of numbers of one shape, or single values such as texts."""
    kinds = {dict if isinstance(row, dict) else list if isinstance(row, list) else object for row in rows}
    if len(kinds) != 1:
        raise CalibrationError(f"{path} holds {'rows of different kinds' if rows else 'no rows'}")
    if kinds == {dict}:
        names = dict.fromkeys(name for row in rows for name in row)
        return _with_callers([(name, [row.get(name) for row in rows]) for name in names], path, unit, lines)
    if kinds == {object}:
        return RowTable.of_columns([("", rows)], str(path), unit, lines)
    try:
        numbers = np.array([_numbers(row) for row in rows], dtype=np.float64)
    except (ValueError, TypeError):
        if len({len(row) for row in rows}) != 1:
            raise CalibrationError(f"{path} holds rows of different lengths") from None
        return RowTable.of_columns([("", column) for column in zip(*rows, strict=True)], str(path), unit, lines)
    return replace(RowTable.of_numbers(numbers, str(path)), unit=unit, lines=tuple(lines))


def _numbers(row: Any) -> Any:
    """Nested numbers; null is missing.

    Raises:
        TypeError: something else is among them.
    """
    if isinstance(row, list):
        return [_numbers(item) for item in row]
    if row is None:
        return math.nan
    if type(row) not in (int, float):
        raise TypeError
    return row


# Parquet


def _parquet(path: Path) -> RowTable:
    try:
        import pyarrow  # noqa: ICN001, PLC0415  an extra
        from pyarrow import parquet  # noqa: PLC0415
    except ModuleNotFoundError:
        raise SettingsError([f"{path}: reading Parquet needs pyarrow: pip install 'modeltoll[parquet]'"]) from None
    try:
        table = parquet.read_table(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise CalibrationError(f"{path} cannot be read: {' '.join(str(error).split())}") from None
    named: Named = [
        (name, [_plain(value, path, name) for value in table.column(name).to_pylist()])
        for name in table.column_names
        if not name.startswith("__index_level_")  # pandas' index
    ]
    return _with_callers(named, path, "row", range(1, 1 + table.num_rows))


def _plain(value: Any, path: Path, column: str) -> Any:
    """A value as JSON has it."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, list):
        return [_plain(item, path, column) for item in value]
    if isinstance(value, dict):
        return {name: _plain(item, path, column) for name, item in value.items()}
    raise CalibrationError(f"{path}: the column {column!r} holds {type(value).__name__}, which JSON cannot have")


_READERS: dict[str, Callable[[Path], RowTable]] = {
    ".npy": _npy,
    ".npz": _npz,
    ".csv": _csv,
    ".tsv": _csv,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json,
    ".parquet": _parquet,
    ".pq": _parquet,
}
