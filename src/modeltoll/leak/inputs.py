"""The one guard of what a caller sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from modeltoll.errors import RequestError

if TYPE_CHECKING:
    from modeltoll.records import Evidence, Floats

__all__ = ["LARGEST", "check_inputs", "inputs_of"]

LARGEST = 1e100  # so that squares and their sums stay finite


def check_inputs(inputs: object, dimensions: int | None = None) -> Floats:
    """Inputs of shape (rows, dimensions) as contiguous float64.

    Raises:
        RequestError: not numbers, not of that shape, not finite, or beyond 1e100 in size.
    """
    try:
        values = np.asarray(inputs, dtype=np.float64)
    except (TypeError, ValueError):
        raise RequestError("the inputs are not rows of numbers of one length") from None
    if values.ndim != 2 or values.shape[1] == 0:
        raise RequestError("the inputs are not of shape (rows, dimensions)")
    if dimensions is not None and values.shape[1] != dimensions:
        raise RequestError(f"a row of the inputs has {values.shape[1]} numbers where the model takes {dimensions}")
    if not (np.abs(values) <= LARGEST).all():
        raise RequestError("the inputs hold a number that is not finite, or too large")
    return np.ascontiguousarray(values)


def inputs_of(evidence: Evidence, dimensions: int | None = None) -> Floats:
    """The inputs of a request, checked as by ``check_inputs``, one row per row of the request.

    Raises:
        RequestError: there are none, or they do not pass the check.
    """
    if evidence.inputs is None:
        raise RequestError("the request shows no inputs that could be measured")
    values = check_inputs(evidence.inputs, dimensions)
    if len(values) != evidence.rows:
        raise RequestError(f"the request has {evidence.rows} rows but inputs for {len(values)}")
    return values
