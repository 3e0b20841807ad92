"""The rows that a calibration sends to the model server: honest ones, those of declared kinds, and those of strangers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.errors import SettingsError
from modeltoll.gateway.setup.row_table import RecordedRequests, RowTable
from modeltoll.leak.corruptions import apply, is_image, parse_kinds
from modeltoll.leak.strangers import PERMUTED_PIXELS, STRANGERS, strange_rows

if TYPE_CHECKING:
    from modeltoll.leak.corruptions import Shape
    from modeltoll.records import Floats

__all__ = [
    "GENERIC_STRANGER_ROWS",
    "CalibrationInputs",
    "RowsToSend",
    "corrupted_rows",
    "generic_strangers",
    "shape_of_rows",
]

GENERIC_STRANGER_ROWS = 400  # a stranger of so many rows is found as soon as one of 1,000; each of them is sent


@dataclass(frozen=True, slots=True, eq=False)
class RowsToSend:
    """Rows of one kind or stranger, made when they are sent. ``make`` gives ``count`` rows.

    ``generic``: of a stranger that the program makes from honest rows.
    """

    name: str
    count: int
    make: Callable[[], Floats | RowTable]
    generic: bool = False

    @classmethod
    def of(cls, name: str, rows: Floats | RowTable) -> RowsToSend:
        """Rows that are there: numbers (rows, dimensions), or a table."""
        return cls(name, len(rows), lambda: rows)


@dataclass(frozen=True, slots=True, eq=False)
class CalibrationInputs:
    """What a calibration sends. ``honest``: numbers (rows, dimensions), a table, or recorded requests.

    ``callers``: the caller of each honest row, "" if unknown.

    ``known_honest``: of callers whose own rows are their kind, the label for people.
    """

    honest: Floats | RowTable | RecordedRequests
    kinds: tuple[RowsToSend, ...] = ()
    strangers: tuple[RowsToSend, ...] = ()
    callers: tuple[str, ...] | None = None
    known_honest: Mapping[str, str] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """How many rows are sent in all."""
        return len(self.honest) + sum(each.count for each in (*self.kinds, *self.strangers))


def shape_of_rows(stored: tuple[int, ...], stated: str | None) -> Shape:
    """The shape of one row for corruptions: as stated (HxW or HxWxC), as stored, or (1, 1, d) of a table.

    Raises:
        SettingsError: what is stated is no shape of so many numbers.
    """
    size = math.prod(stored)
    sides = stored
    if stated is not None:
        try:
            sides = tuple(int(side) for side in stated.split("x"))
        except ValueError:
            sides = ()
        if len(sides) not in {2, 3} or min(sides) < 1 or math.prod(sides) != size:
            raise SettingsError([f"--shape: {stated!r} is not HEIGHTxWIDTH[xCHANNELS] with {size} numbers"])
    if len(sides) == 2:
        return sides[0], sides[1], 1
    return (sides[0], sides[1], sides[2]) if len(sides) == 3 else (1, 1, size)


def corrupted_rows(
    kinds: str, inputs: Floats | RowTable, shape: Shape, count: int, seed: int
) -> tuple[RowsToSend, ...]:
    """Rows of the declared kinds of a list such as ``blur,rotate:25``, each made from ``count`` honest rows at most.

    Columns of texts and categories stay as they are; where rows lack values, the kind ``missing`` leaves them out too.

    Raises:
        SettingsError: an unknown kind, one of images for rows that are no images, or no column of numbers.
    """
    corruptions, table = parse_kinds(kinds), _as_table(inputs)
    unsuited = [corruption.name for corruption in corruptions if not corruption.suits(shape)]
    if unsuited:
        raise SettingsError(
            [f"--kinds: {', '.join(unsuited)} change images; give --shape HxW[xC] if these rows are images"]
        )
    if corruptions and not table.numeric.any():
        raise SettingsError(["--kinds change numbers, which these rows have none of; give --kind NAME=FILE"])

    def maker(place: int) -> Callable[[], RowTable]:
        def make() -> RowTable:
            rng = np.random.default_rng((seed, place))
            chosen = table.numbers[rng.permutation(len(table))[:count]]
            changed = apply(corruptions[place], chosen, shape, rng)
            may_change = table.numeric | (corruptions[place].family == "missing" and bool(np.isnan(chosen).any()))
            return table.made(np.where(may_change, changed, chosen), corruptions[place].name)

        return make

    most = min(count, len(table))
    return tuple(RowsToSend(corruption.name, most, maker(place)) for place, corruption in enumerate(corruptions))


def generic_strangers(inputs: Floats | RowTable, shape: Shape, seed: int) -> tuple[RowsToSend, ...]:
    """Rows that no honest caller sends, made from honest ones: noise, shuffled columns, and of images permuted pixels.

    Of texts there are none: they have one column.
    """
    table = _as_table(inputs)
    if table.numbers.shape[1] == 1 and not table.numeric.any():
        return ()

    def maker(name: str) -> Callable[[], RowTable]:
        def make() -> RowTable:
            rng = np.random.default_rng((seed, *name.encode()))
            chosen = table.numbers[rng.permutation(len(table))[:GENERIC_STRANGER_ROWS]]
            return table.made(strange_rows(name, chosen, shape, rng), name)

        return make

    may_permute = is_image(shape) and bool(table.numeric.all())
    names = [name for name in STRANGERS if name != PERMUTED_PIXELS or may_permute]
    most = min(GENERIC_STRANGER_ROWS, len(table))
    return tuple(RowsToSend(name, most, maker(name), generic=True) for name in names)


def _as_table(inputs: Floats | RowTable) -> RowTable:
    return RowTable.of_numbers(inputs) if isinstance(inputs, np.ndarray) else inputs
