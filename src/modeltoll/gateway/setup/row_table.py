"""Rows of files: a table of numbers, texts and missing values, and recorded requests."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from modeltoll.records import Bools, Floats, Integers

__all__ = ["RecordedRequests", "RowTable", "common_rows"]

_EXACT = 2**53  # whole numbers up to which floats are exact


@dataclass(frozen=True, slots=True, eq=False)
class RowTable:
    """Rows as numbers, and what the numbers stand for.

    ``numbers`` (n, d): a missing value is NaN; in a column with ``words`` a number is the place of the value in them.
    ``columns``: the names of the d columns, () where they have none. ``words``: for each column the values that it holds,
    any JSON, or () where it holds numbers. ``whole`` (d,): columns of whole numbers. ``shape``: of one row in the file.
    ``lines``: the line, or else the row, of the file ``source`` at which each row stands, from 1 on; empty for rows that
    were made. ``callers``: the caller of each row, "" where it is not known.
    """

    numbers: Floats
    columns: tuple[str, ...]
    words: tuple[tuple[Any, ...], ...]
    whole: Bools
    shape: tuple[int, ...]
    source: str = ""
    unit: str = "row"
    lines: tuple[int, ...] = ()
    callers: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def numeric(self) -> Bools:
        """Which columns (d,) hold numbers."""
        return np.array([not words for words in self.words], dtype=bool)

    @property
    def all_numbers(self) -> bool:
        """Whether every value is a number, and none is missing."""
        return bool(self.numeric.all()) and not np.isnan(self.numbers).any()

    def where(self, row: int) -> str:
        """The place of a row, for people."""
        if not self.lines:
            return f"row {row + 1}{f' of {self.source}' if self.source else ''}"
        return f"{self.source}, {self.unit} {self.lines[row]}"

    def values(self, row: int) -> list[Any]:
        """The values of a row as JSON has them; None for a missing one."""
        return [self._value(column, number) for column, number in enumerate(self.numbers[row].tolist())]

    def _value(self, column: int, number: float) -> Any:
        if math.isnan(number):
            return None
        if words := self.words[column]:
            return words[min(max(round(number), 0), len(words) - 1)]
        return round(number) if self.whole[column] else number

    def take(self, rows: Integers) -> RowTable:
        """The table of these rows."""
        places = rows.tolist()
        lines = tuple(self.lines[row] for row in places) if self.lines else ()
        callers = None if self.callers is None else tuple(self.callers[row] for row in places)
        return replace(self, numbers=self.numbers[rows], lines=lines, callers=callers)

    def made(self, numbers: Floats, name: str) -> RowTable:
        """A table of rows that were made from this one's, in the same columns."""
        return replace(self, numbers=numbers, source=name, lines=(), callers=None)

    def keys(self) -> list[str]:
        """Each row's values as text, to compare rows of different files."""
        return [json.dumps(self.values(row)) for row in range(len(self))]

    @classmethod
    def of_numbers(cls, rows: Floats, source: str = "") -> RowTable:
        """Numbers (n, ...) without names; further dimensions are flattened."""
        flat = rows.reshape(len(rows), -1)
        width = flat.shape[1]
        lines = tuple(range(1, len(rows) + 1)) if source else ()
        return cls(flat, (), ((),) * width, np.zeros(width, dtype=bool), rows.shape[1:], source, "row", lines)

    @classmethod
    def of_columns(
        cls, named: Sequence[tuple[str, Sequence[Any]]], source: str, unit: str, lines: Iterable[int]
    ) -> RowTable:
        """Columns of JSON values, with their names, all empty where they have none; None and NaN are missing."""
        encoded = [_encoded(values) for _, values in named]
        names = tuple(name for name, _ in named)
        return cls(
            np.column_stack([numbers for numbers, _, _ in encoded]),
            names if any(names) else (),
            tuple(words for _, words, _ in encoded),
            np.array([whole for _, _, whole in encoded], dtype=bool),
            (len(named),),
            source,
            unit,
            tuple(lines),
        )


def _encoded(values: Sequence[Any]) -> tuple[Floats, tuple[Any, ...], bool]:
    """A column's numbers, its words, and whether its numbers are whole."""
    present = [value for value in values if not _is_missing(value)]
    if all(type(value) in (int, float) and abs(value) <= _EXACT for value in present):
        numbers = [math.nan if _is_missing(value) else float(value) for value in values]
        return np.array(numbers), (), bool(present) and all(type(value) is int for value in present)
    places: dict[str, int] = {}
    words: list[Any] = []
    codes: list[float] = []
    for value in values:
        if _is_missing(value):
            codes.append(math.nan)
            continue
        key = json.dumps(value)
        if key not in places:
            places[key] = len(words)
            words.append(value)
        codes.append(float(places[key]))
    return np.array(codes), tuple(words), False


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def common_rows(table: RowTable, known: RowTable) -> int:
    """How many rows of a table occur exactly in another; named columns are compared where both have the same names."""
    if table.numbers.shape[1] != known.numbers.shape[1]:
        return 0
    if set(table.columns) == set(known.columns) and table.columns != known.columns:
        order = [known.columns.index(name) for name in table.columns]
        known = replace(
            known, numbers=known.numbers[:, order], words=tuple(known.words[i] for i in order), whole=known.whole[order]
        )
    plain = all(not words for words in (*table.words, *known.words))
    theirs = set(_number_keys(known) if plain else known.keys())
    return sum(key in theirs for key in (_number_keys(table) if plain else table.keys()))


def _number_keys(table: RowTable) -> list[str]:
    return [row.tobytes().hex() for row in np.ascontiguousarray(table.numbers + 0.0)]


@dataclass(frozen=True, slots=True)
class RecordedRequests:
    """Bodies of requests, each sent as it is. ``lines``: where each stands in the file ``source``."""

    bodies: tuple[bytes, ...]
    source: str
    lines: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.bodies)

    def where(self, row: int) -> str:
        """The place of a request, for people."""
        return f"{self.source}, line {self.lines[row]}"
