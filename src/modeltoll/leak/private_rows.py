"""Private rows as arrays hold them: numbers of any shape, codes, or texts; read as flat rows with the shape of one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from modeltoll.errors import CalibrationError
from modeltoll.leak.input_transform import HashedCodes, Standardised, byte_rows, hold_codes, is_text
from modeltoll.leak.pair_rarity import PairRarity

if TYPE_CHECKING:
    from modeltoll.leak.corruptions import Shape
    from modeltoll.leak.input_transform import InputTransform
    from modeltoll.records import Floats

__all__ = ["PrivateRows", "private_rows", "shape_of_sides"]


@dataclass(frozen=True, slots=True, eq=False)
class PrivateRows:
    """Flat rows (n, d), the shape of one, and whether its numbers are codes."""

    inputs: Floats
    shape: Shape
    codes: bool

    def fitted_transform(self) -> InputTransform:
        """The transform of such inputs, fitted to these rows."""
        return HashedCodes(self.inputs.shape[1]) if self.codes else Standardised.fit(self.inputs, self.shape)

    def fitted_rarity(self) -> PairRarity | None:
        """The rarity of pairs of codes, fitted to these rows; None: they hold no codes, or too few to be told apart by it."""
        rarity = PairRarity.fit(self.inputs) if self.codes else None
        return rarity if rarity is not None and rarity.tells_apart(self.inputs) else None


def private_rows(array: NDArray[Any], shape: Shape | None = None, *, codes: bool | None = None) -> PrivateRows:
    """The rows of an array: its first dimension counts them. One text or bytes object a row becomes 2,048 codes.

    Args:
        array: numbers (n, ...), or texts (n,).
        shape: the shape of a row; by default as stored.
        codes: whether whole numbers are codes, not quantities; by default as ``hold_codes`` finds.

    Raises:
        CalibrationError: the array holds neither.
    """
    if is_text(array) and array.size and codes is not False:
        array, codes = byte_rows(array.tolist()), True
    if array.dtype.kind not in "fiub" or array.ndim < 2 or array.size == 0:
        raise CalibrationError("the private data must hold rows of numbers, or texts")
    shape = shape_of_sides(array.shape[1:]) if shape is None else shape
    flat = array.reshape(len(array), -1)
    hashed = hold_codes(flat, shape) if codes is None else codes
    return PrivateRows(flat.astype(np.float64), shape, hashed)


def shape_of_sides(sides: tuple[int, ...]) -> Shape:
    """Three sides as they are, two with one channel, and (1, 1, d) for all others."""
    if len(sides) == 2:
        return sides[0], sides[1], 1
    return (sides[0], sides[1], sides[2]) if len(sides) == 3 else (1, 1, math.prod(sides))
