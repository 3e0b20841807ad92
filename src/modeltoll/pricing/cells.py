"""Cells: the classes into which rows are sorted by their smoothed p-values, for the evidence.

A row has one or two p-values among all traffic, its coordinates: that of a measure that reads answers and that of one that
reads inputs. Joint cells show what the coordinates show together; rows of two cells that look the same in each coordinate
alone can still be told apart.
"""

from __future__ import annotations

from bisect import bisect_left
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modeltoll.records import Floats, Integers

__all__ = ["Cells"]

_ALONE = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.97, 0.99, 1.0)
_ANSWER = (0.0, 0.01, 0.03, 0.1, 0.35, 0.65, 1.0)
_INPUT = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.35, 0.65, 1.0)


def _merged(edges: tuple[float, ...], honest_rows: int) -> tuple[float, ...]:
    """The edges, merged from the left until every bin is at least 1 / (honest_rows + 1) wide, the resolution of p-values."""
    least = 1.0 / (honest_rows + 1)
    kept = [0.0]
    for edge in edges[1:-1]:
        if edge - kept[-1] >= least and 1.0 - edge >= least:
            kept.append(edge)
    return (*kept, 1.0)


class Cells:
    """The cells of one or two coordinates. The index of a joint cell is answer bin * number of input bins + input bin.

    ``honest_rows`` (>= 1): the rows of the calibration; bins narrower than the resolution of its p-values are merged.
    ``edges``: of each coordinate, from 0 to 1. ``shape``: the number of bins of each coordinate. ``count``: of cells.
    ``widths`` (cells,): the product of the widths of a cell's bins.
    """

    def __init__(self, coordinates: int, honest_rows: int) -> None:
        standard = {1: (_ALONE,), 2: (_ANSWER, _INPUT)}[coordinates]
        self.edges = tuple(_merged(edges, honest_rows) for edges in standard)
        self.shape = tuple(len(edges) - 1 for edges in self.edges)
        self.widths: Floats = reduce(np.multiply.outer, [np.diff(edges) for edges in self.edges]).ravel()
        self.count = len(self.widths)
        self._inner = [list(edges[1:-1]) for edges in self.edges]

    def of(self, p_values: Floats) -> Integers:
        """The cell (rows,) of each row of smoothed p-values (rows, coordinates). A value on an edge is in the lower bin."""
        cells = np.zeros(len(p_values), np.int64)
        for inner, bins, column in zip(self._inner, self.shape, p_values.T, strict=True):
            cells = cells * bins + np.searchsorted(inner, column)
        return cells

    def of_list(self, p_values: Sequence[float]) -> int:
        """The cell of one row's p-values; faster than ``of`` for a few rows."""
        cell = 0
        for inner, bins, p in zip(self._inner, self.shape, p_values, strict=True):
            cell = cell * bins + bisect_left(inner, p)
        return cell

    def bounds(self, cell: int) -> tuple[tuple[float, float], ...]:
        """For each coordinate the p-values between which this cell lies."""
        places = []
        for bins in reversed(self.shape):
            cell, place = divmod(cell, bins)
            places.append(place)
        return tuple(
            (edges[place], edges[place + 1]) for edges, place in zip(self.edges, reversed(places), strict=True)
        )
