"""Bins of p-values, in each of which all rows have one price.

A price for every p would tell a caller the rank of a row's leak among the honest rows. So p is cut into bins in which the
factor f(p) = (1 - g) p^(-g) varies at most twofold, and a row's price is the mean of f over the p-values k / (n + 1) of its
bin. Rows of one bin have the same price, so no quote distinguishes them, whatever other rows they are sent with.

Its mean over honest rows is at most 1. Let b(k) be the price at k = (n + 1) p, k = 1..n+1. As f decreases and bins are
intervals, b(k) does not increase with k. The conformal p of an honest row is super-uniform: P(K <= k) <= k / (n + 1), with
equality where no scores are tied. Summation by parts gives

    E b(K) = b(n+1) + sum_{k<=n} (b(k) - b(k+1)) P(K <= k)
          <= b(n+1) + sum_{k<=n} (b(k) - b(k+1)) k / (n+1) = sum_k b(k) / (n+1) = sum_k f(k / (n+1)) / (n+1),

since a mean keeps the sum over its bin; and f decreases, so this is at most the integral of f over 0..1, which is 1.
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
    """The bins of the p-values k / ``steps``, k = 1..``steps``. ``starts``: the index k - 1 of the first p of each bin.

    At most 1 + g log2(``steps``) bins, for the exponent g that they were cut for.
    """

    steps: int
    starts: Integers

    @classmethod
    def cut(cls, honest_rows: int, g: float) -> PriceBins:
        """The bins for n = ``honest_rows`` >= 1 calibration rows: p in (2^(-(j+1)/g), 2^(-j/g)], j = 0, 1, and so on.

        The factor varies at most twofold in each, at this exponent 0 < g < 1 and at every smaller one.
        """
        steps = honest_rows + 1
        doublings = np.floor(g * np.log2(steps / np.arange(1, steps + 1)))
        return cls(steps, np.flatnonzero(np.diff(doublings, prepend=doublings[0] + 1.0)))

    def factors(self, g: float) -> Floats:
        """The price factor of each p-value at an exponent 0 < g < 1, (``steps``,), by its index k - 1."""
        exact = (1.0 - g) * (np.arange(1, self.steps + 1) / self.steps) ** -g
        sizes = np.diff(self.starts, append=self.steps)
        return np.repeat(np.add.reduceat(exact, self.starts) / sizes, sizes)

    def bounds(self, indices: Integers) -> tuple[Floats, Floats]:
        """The smallest and the largest p-value in the bin of each index k - 1, in the shape of ``indices``."""
        ends = np.append(self.starts[1:], self.steps)
        found = self.starts.searchsorted(indices, "right") - 1
        return (self.starts[found] + 1) / self.steps, ends[found] / self.steps
