"""The rows that a calibration sends to the model server: honest ones, those of declared kinds, and those of strangers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.errors import CalibrationError, SettingsError
from modeltoll.files import read_arrays, read_numbers
from modeltoll.leak.corruptions import apply, is_image, parse_kinds
from modeltoll.leak.strangers import PERMUTED_PIXELS, STRANGERS, strange_rows

if TYPE_CHECKING:
    from pathlib import Path

    from modeltoll.leak.corruptions import Shape
    from modeltoll.records import Floats

__all__ = [
    "GENERIC_STRANGER_ROWS",
    "CalibrationInputs",
    "InputFile",
    "RowsToSend",
    "corrupted_rows",
    "generic_strangers",
    "read_inputs",
    "read_rows",
    "shape_of_rows",
]

GENERIC_STRANGER_ROWS = 1000
_INPUTS, _CALLERS = "inputs", "callers"


@dataclass(frozen=True, slots=True, eq=False)
class RowsToSend:
    """Rows of one kind or stranger, made when they are sent. ``make`` gives ``count`` rows, (count, dimensions).

    ``generic``: of a stranger that the program makes from honest rows.
    """

    name: str
    count: int
    make: Callable[[], Floats]
    generic: bool = False

    @classmethod
    def of(cls, name: str, rows: Floats) -> RowsToSend:
        """Rows that are there, (rows, dimensions)."""
        return cls(name, len(rows), lambda: rows)


@dataclass(frozen=True, slots=True, eq=False)
class CalibrationInputs:
    """What a calibration sends. ``honest``: (rows, dimensions). ``callers``: the caller of each honest row, "" if unknown.

    ``known_honest``: of callers whose own rows are their kind, the label for people.
    """

    honest: Floats
    kinds: tuple[RowsToSend, ...] = ()
    strangers: tuple[RowsToSend, ...] = ()
    callers: tuple[str, ...] | None = None
    known_honest: Mapping[str, str] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """How many rows are sent in all."""
        return len(self.honest) + sum(each.count for each in (*self.kinds, *self.strangers))


@dataclass(frozen=True, slots=True, eq=False)
class InputFile:
    """A file of inputs: ``rows`` (rows, dimensions), the ``shape`` of one row in the file, and the callers if it names them."""

    rows: Floats
    shape: tuple[int, ...]
    callers: tuple[str, ...] | None


def read_inputs(path: Path) -> InputFile:
    """Inputs of an .npy file, or of an .npz archive with ``inputs`` and ``callers``, one name per row.

    Raises:
        CalibrationError: no such file, no table of finite numbers, or not one caller per row.
    """
    if path.suffix != ".npz":
        rows, callers = read_numbers(path), None
    else:
        arrays = read_arrays(path, (_INPUTS,))
        rows, callers = arrays[_INPUTS], read_arrays(path).get(_CALLERS)
        if rows.dtype.kind not in "fiub":
            raise CalibrationError(f"{path} does not hold one row of finite numbers per input")
        rows = rows.astype(np.float64)
    if rows.ndim < 2 or not rows.size or not np.isfinite(rows).all():
        raise CalibrationError(f"{path} does not hold one row of finite numbers per input")
    if callers is not None and (callers.dtype.kind != "U" or callers.shape != rows.shape[:1]):
        raise CalibrationError(f"{path}: {_CALLERS!r} must hold one name per row of {_INPUTS!r}")
    names = None if callers is None else tuple(map(str, callers))
    return InputFile(rows.reshape(len(rows), -1), rows.shape[1:], names)


def read_rows(path: Path) -> Floats:
    """The rows of a file, (rows, dimensions); further dimensions are flattened. Raises as ``read_inputs`` does."""
    return read_inputs(path).rows


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


def corrupted_rows(kinds: str, inputs: Floats, shape: Shape, count: int, seed: int) -> tuple[RowsToSend, ...]:
    """Rows of the declared kinds of a list such as ``blur,rotate:25``, each made from ``count`` honest rows at most.

    Raises:
        SettingsError: an unknown kind, or one of images for rows that are no images.
    """
    corruptions = parse_kinds(kinds)
    unsuited = [corruption.name for corruption in corruptions if not corruption.suits(shape)]
    if unsuited:
        raise SettingsError(
            [f"--kinds: {', '.join(unsuited)} change images; give --shape HxW[xC] if these rows are images"]
        )

    def maker(place: int) -> Callable[[], Floats]:
        def make() -> Floats:
            rng = np.random.default_rng((seed, place))
            chosen = inputs[rng.permutation(len(inputs))[:count]]
            return apply(corruptions[place], chosen, shape, rng)

        return make

    most = min(count, len(inputs))
    return tuple(RowsToSend(corruption.name, most, maker(place)) for place, corruption in enumerate(corruptions))


def generic_strangers(inputs: Floats, shape: Shape, seed: int) -> tuple[RowsToSend, ...]:
    """Rows that no honest caller sends, made from honest ones: noise, shuffled columns, and of images permuted pixels."""

    def maker(name: str) -> Callable[[], Floats]:
        def make() -> Floats:
            rng = np.random.default_rng((seed, *name.encode()))
            return strange_rows(name, inputs[rng.permutation(len(inputs))[:GENERIC_STRANGER_ROWS]], shape, rng)

        return make

    names = [name for name in STRANGERS if name != PERMUTED_PIXELS or is_image(shape)]
    most = min(GENERIC_STRANGER_ROWS, len(inputs))
    return tuple(RowsToSend(name, most, maker(name), generic=True) for name in names)
