"""Validate private data and partition it for an ensemble."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from modeltoll.errors import CalibrationError, RequestError
from modeltoll.leak.inputs import check_inputs

if TYPE_CHECKING:
    from modeltoll.records import Floats, Integers

__all__ = ["check_private", "partition"]


def check_private(inputs: Floats, labels: NDArray[Any]) -> tuple[Floats, NDArray[Any], Integers]:
    """Inputs (n, d) as float64, the sorted classes (C,), and the index of each row's class, (n,).

    Raises:
        CalibrationError: shapes that do not match, numbers that are not finite, or a single class.
    """
    try:
        values = check_inputs(inputs)
    except RequestError as error:
        raise CalibrationError(f"the private data cannot be used: {error}") from None
    names = np.asarray(labels)
    if names.dtype.kind == "O":
        names = names.astype(np.str_)
    if names.shape != (len(values),):
        raise CalibrationError(f"there are {len(values)} private rows but labels of shape {names.shape}")
    classes, codes = np.unique(names, return_inverse=True)
    if classes.size < 2:
        raise CalibrationError("the private data has one class only; votes need at least two")
    return values, classes, codes.astype(np.int64)


def partition(codes: Integers, teachers: int, seed: int) -> list[Integers]:
    """Partition shuffled rows at random, stratified by class: sizes differ by at most 1, also within each class.

    Args:
        codes: the index of each row's class, shape (n,).
        teachers: number of parts.
        seed: of the shuffle.

    Returns:
        For each teacher the indices of its rows, ascending.

    Raises:
        CalibrationError: too few rows for two classes per teacher.
    """
    if teachers < 1 or codes.size < 2 * teachers:
        raise CalibrationError(f"{codes.size} private rows are too few for {teachers} teachers; each needs 2")
    shuffled = np.random.default_rng(seed).permutation(codes.size)
    by_class = shuffled[np.argsort(codes[shuffled], kind="stable")]
    parts = [np.sort(by_class[teacher::teachers]) for teacher in range(teachers)]
    if any(np.all(codes[part] == codes[part[0]]) for part in parts):
        raise CalibrationError(f"with {teachers} teachers some would get a single class; use fewer")
    return parts
