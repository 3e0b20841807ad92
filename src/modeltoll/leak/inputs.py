"""Validation of a request's inputs, shared by all measures that read inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from modeltoll.errors import RequestError
from modeltoll.leak.measure import LARGEST_INPUT

if TYPE_CHECKING:
    from modeltoll.records import Evidence, Floats

__all__ = ["LARGEST", "check_inputs", "inputs_of"]

LARGEST = LARGEST_INPUT


def check_inputs(inputs: object, dimensions: int | None = None, *, missing: bool = False) -> Floats:
    """Validated inputs of shape (rows, dimensions), as contiguous float64. ``missing``: NaN is a value, a missing one.

    Raises:
        RequestError: not numbers, of another shape, not finite, or of magnitude above 1e100.
    """
    try:
        values = np.asarray(inputs, dtype=np.float64)
    except (TypeError, ValueError):
        raise RequestError("the inputs are not rows of numbers of one length") from None
    if values.ndim != 2 or values.shape[1] == 0:
        raise RequestError("the inputs are not of shape (rows, dimensions)")
    if dimensions is not None and values.shape[1] != dimensions:
        raise RequestError(f"a row of the inputs has {values.shape[1]} numbers where the model takes {dimensions}")
    if not ((np.abs(values) <= LARGEST) | (missing & np.isnan(values))).all():
        raise RequestError("the inputs hold a number that is not finite, or too large")
    return np.ascontiguousarray(values)


def inputs_of(evidence: Evidence, dimensions: int | None = None, *, missing: bool = False) -> Floats:
    """The inputs of a request, validated by ``check_inputs``, shape (``evidence.rows``, dimensions).

    Raises:
        RequestError: the inputs are missing, invalid, or not as many as the request has rows.
    """
    if evidence.inputs is None:
        raise RequestError("the request has no inputs that can be measured")
    values = check_inputs(evidence.inputs, dimensions, missing=missing)
    if len(values) != evidence.rows:
        raise RequestError(f"the request has {evidence.rows} rows but inputs for {len(values)}")
    return values
