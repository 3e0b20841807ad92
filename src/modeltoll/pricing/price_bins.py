"""Bins of p-values, in each of which all rows have one price.

A price for every p would tell a caller the rank of a row's leak among honest rows. So p is cut into bins in which the
factor f(p) = (1 - g) p^(-g) varies at most twofold, and a row's price b(p) is the mean of f over its bin. Rows of one bin have
the same price, so no quote distinguishes them, whatever other rows they are sent with.

Its mean over the honest rows of any kind is at most 1, whatever the number of that kind's calibration rows. The price b does
not increase with p, and its integral over 0..1 is at most that of f, which is 1. The conformal p of a row of the kind is
super-uniform, P(p <= k / (n + 1)) <= k / (n + 1), ties or not, and so is whatever is never below it: the largest of it and of
p-values among other kinds. A price that does not increase with p has then at most its mean over k / (n + 1), k = 1..n+1,
which is a lower sum of the integral.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from modeltoll.records import Floats, Integers

__all__ = ["PriceBins"]


@dataclass(frozen=True, slots=True, eq=False)
class PriceBins:
    """The bins of p: bin i holds ``edges[i + 1]`` < p <= ``edges[i]``. ``edges`` (bins + 1,) descend from 1.

    Smaller p belong to the last bin. At most 1 + g log2(rows + 1) bins, for the exponent g that they were cut for.
    """

    edges: Floats

    @classmethod
    def cut(cls, rows: int, g: float) -> PriceBins:
        """The bins for p-values of 1 / (``rows`` + 1) or more: the edges are 2^(-i / g), i = 0, 1, and so on.

        The factor varies at most twofold in each, at this exponent 0 < g < 1 and at every smaller one.
        """
        bins = int(g * np.log2(rows + 1)) + 1
        with np.errstate(over="ignore"):  # of a tiny g, whose last edge is 0
            return cls(2.0 ** (-np.arange(bins + 1) / g))

    @property
    def count(self) -> int:
        """The number of bins."""
        return len(self.edges) - 1

    def of(self, p_values: Floats) -> Integers:
        """The bin of each p-value in 0..1, in any shape. A value on an edge belongs to the bin of smaller ones."""
        found: Integers = (-self.edges[1:-1]).searchsorted(-p_values, "right")
        return found

    def prices(self, g: float) -> Floats:
        """The price of each bin at an exponent 0 < g < 1, (bins,): the mean of f over the bin. They ascend."""
        upper, lower = self.edges[:-1], self.edges[1:]
        with np.errstate(divide="ignore"):  # an edge may underflow to 0
            shrunk = (1.0 - g) * np.log(lower / upper)
        prices: Floats = -(upper ** (1.0 - g)) * np.expm1(shrunk) / (upper - lower)
        return prices

    def factors(self, p_values: Floats, g: float) -> Floats:
        """The price factor of each p-value at an exponent 0 < g < 1, in the shape of ``p_values``."""
        factors: Floats = self.prices(g)[self.of(p_values)]
        return factors

    def bounds(self, p_values: Floats) -> tuple[Floats, Floats]:
        """The lower (0 for the last bin) and the upper end of the bin of each p-value, in the shape of ``p_values``."""
        found = self.of(p_values)
        return np.where(found == self.count - 1, 0.0, self.edges[found + 1]), self.edges[found]
