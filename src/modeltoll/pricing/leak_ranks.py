"""Conformal p-values of leaks: among the rows of one sample, and the largest among those of several samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modeltoll.records import Floats, Integers

__all__ = ["LeakRanks", "MergedRanks", "SampleRanks", "rounded_leaks", "rounded_rows"]

_DROPPED_BITS = 28  # of a double's 52; values that differ by a relative 6e-8 remain distinct
_HALF_UNIT = 1 << (_DROPPED_BITS - 1)
_HALF = np.int64(_HALF_UNIT)


def rounded_leaks(values: Floats) -> Integers:
    """Leaks >= 0 as integers in the same order, rounded to 24 bits.

    Two measurements of one leak may differ in the last bits, for example with the batch size. They must remain a tie:
    where many honest rows tie, the next larger double would count as rare.
    """
    bits: Integers = np.ascontiguousarray(values + 0.0).view(np.int64)  # + 0.0 makes 0.0 of -0.0
    bits += _HALF
    bits >>= _DROPPED_BITS
    return bits


def rounded_rows(values: Floats) -> list[list[int]]:
    """``rounded_leaks`` of few rows, (rows, measures), as lists, in less time."""
    return [[(bits + _HALF_UNIT) >> _DROPPED_BITS for bits in row] for row in (values + 0.0).view(np.int64).tolist()]


class LeakRanks:
    """Ranks among n leaks by one measure. ``scores`` (n,): ascending. ``rounded`` (n,): the same, rounded."""

    def __init__(self, scores: Floats) -> None:
        self.rounded = rounded_leaks(scores)
        self.rows = len(scores)

    def count(self, rounded: Integers, side: Literal["left", "right"] = "left") -> Integers:
        """The number of scores at or above (``left``), or above (``right``), each rounded leak, in any shape."""
        counts: Integers = self.rows - self.rounded.searchsorted(rounded, side)
        return counts

    def p_values(self, rounded: Integers) -> Floats:
        """p = (1 + #{s_i >= s}) / (n + 1) of each rounded leak s, in any shape."""
        p_values: Floats = (1 + self.count(rounded)) / (self.rows + 1)
        return p_values


class SampleRanks:
    """``LeakRanks`` by each of several measures, among rows of ``scores`` (measures, n), each ascending."""

    def __init__(self, scores: Floats) -> None:
        self.measures = tuple(LeakRanks(column) for column in scores)
        self.rows = int(scores.shape[1])

    def count(self, rounded: Integers, side: Literal["left", "right"] = "left") -> Integers:
        """``LeakRanks.count`` by each measure, of ``rounded`` leaks (rows, measures), in the same shape."""
        columns = zip(self.measures, rounded.T, strict=True)
        return np.stack([ranks.count(column, side) for ranks, column in columns], axis=1)

    def p_values(self, rounded: Integers) -> Floats:
        """``LeakRanks.p_values`` by each measure, of ``rounded`` leaks (rows, measures), in the same shape."""
        p_values: Floats = (1 + self.count(rounded)) / (self.rows + 1)
        return p_values


class MergedRanks:
    """The largest p-value of a leak among several samples by one measure: a step function of the leak, found by one search.

    ``values`` (distinct,): all rounded scores, ascending. A leak has the *place* i, the number of values below it.
    ``p_values`` (distinct + 1,): the largest p at each place. ``at_least`` (distinct + 1,): the number of scores of the first
    sample at or above a leak at that place.
    """

    def __init__(self, samples: Sequence[LeakRanks]) -> None:
        self.values = np.unique(np.concatenate([ranks.rounded for ranks in samples]))
        ends = np.append(self.values, self.values[-1] + 1)
        self.p_values: Floats = np.max([ranks.p_values(ends) for ranks in samples], axis=0)
        self.at_least = samples[0].count(ends)

    def places(self, rounded: Integers) -> Integers:
        """The place of each rounded leak, in any shape."""
        return self.values.searchsorted(rounded)
