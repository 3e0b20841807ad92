"""Generic strangers: rows that no honest caller sends, made from honest ones. They show how far a measure can see."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from modeltoll.leak.corruptions import is_image, value_range

if TYPE_CHECKING:
    from modeltoll.leak.corruptions import Shape
    from modeltoll.records import Floats

__all__ = ["NOISE", "PERMUTED_PIXELS", "SHUFFLED_COLUMNS", "STRANGERS", "strange_rows"]

NOISE, SHUFFLED_COLUMNS, PERMUTED_PIXELS = STRANGERS = ("noise", "shuffled columns", "permuted pixels")


def strange_rows(name: str, inputs: Floats, shape: Shape, rng: np.random.Generator) -> Floats:
    """As many strange rows (n, d) as there are honest ones.

    ``noise``: uniform between the least and the largest value, of all pixels or of the column. ``shuffled columns``: each
    column in another order of rows, so that each number is usual and their combination is not. ``permuted pixels``: the
    columns of all rows in one random order. Whole numbers stay whole, and missing values stay where the shuffling
    leaves them.

    Raises:
        ValueError: an unknown name.
    """
    if name == NOISE:
        return _noise(inputs, shape, rng)
    if name == SHUFFLED_COLUMNS:
        return rng.permuted(inputs, axis=0)
    if name == PERMUTED_PIXELS:
        return inputs[:, rng.permutation(inputs.shape[1])]
    raise ValueError(f"there is no generic stranger {name!r}")


def _noise(inputs: Floats, shape: Shape, rng: np.random.Generator) -> Floats:
    known = np.nan_to_num(inputs)
    low, high = value_range(known) if is_image(shape) else (known.min(axis=0), known.max(axis=0))
    drawn = rng.uniform(low, high, inputs.shape)
    return np.round(drawn) if (known == np.round(known)).all() else drawn
