"""The price of a cell by how much more often strangers fall into it than any honest caller can.

Let r be the law of known strangers over the cells and q^j those of the kinds. The reverse information projection of r onto the
hull of kinds is the mixture h* = sum_j w_j q^j that maximises sum_k r_k log h_k. By the first-order condition
sum_k q^j_k r_k / h*_k <= 1 for every kind: the ratio r / h*, the numeraire, is a price whose mean is at most 1 for every kind
and every mixture of kinds (Larsson, Ramdas, Ruf 2025), and no such price has a greater mean logarithm under r.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.pricing.kinds import ALL_TRAFFIC

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modeltoll.pricing.cells import Cells
    from modeltoll.pricing.kinds import FittedKind
    from modeltoll.records import Bools, Floats

__all__ = ["CellPrices", "cautious_laws", "numeraire_prices", "reverse_projection", "strangers_law"]

_STEPS = 20_000
_TOLERANCE = 1e-6  # of the first-order condition; the certificate covers what is missing
_MANY_ROWS = 1000  # of a kind, from which on a row in addition matters little
_HONEST_SHARE = 0.1  # of the kinds' mean law in the strangers' law, so that no cell is free


def cautious_laws(kinds: Sequence[FittedKind], laws: Floats) -> Floats:
    """The ``laws`` (kinds, cells), those of many rows raised to (count + 1) / (rows + 1) in each cell.

    That is what a row that has come in addition to the others, and fell into the cell, would make of it: with a single kind
    the mean price of exchangeable rows is then at most 1 exactly, although the laws are estimates. Where no row of the kind
    fell into a cell, no price exceeds the number of its rows.
    """
    raised = laws.copy()
    for law, kind in zip(raised, kinds, strict=True):
        if kind.role == ALL_TRAFFIC or kind.rows >= _MANY_ROWS:
            np.maximum(law, (kind.counts + 1) / (kind.rows + 1), out=law)
    return raised


def strangers_law(counts: Floats, laws: Floats) -> Floats:
    """The law r of strangers over the cells, (cells,), sum 1: every stranger has one share, and every cell some.

    ``counts`` (strangers, cells): of the rows of each stranger. ``laws`` (kinds, cells).
    """
    shares = counts / counts.sum(axis=1, keepdims=True)
    honest = laws.mean(axis=0)
    law: Floats = (1.0 - _HONEST_SHARE) * shares.mean(axis=0) + _HONEST_SHARE * honest / honest.sum()
    return law


def reverse_projection(law: Floats, laws: Floats) -> tuple[Floats, float]:
    """h* (cells,), or a mixture near it, and its certificate: the largest mean of ``law`` / h* over the kinds.

    The ratio divided by the certificate has a mean of at most 1 under each kind, near the projection or not. ``law``
    (cells,) sums to 1; ``laws`` (kinds, cells) are above 0. By expectation maximisation from equal weights.
    """
    weights = np.full(len(laws), 1.0 / len(laws))
    mixture, largest = weights @ laws, np.inf
    for _ in range(_STEPS):
        mixture = weights @ laws
        means = laws @ (law / mixture)
        largest = float(means.max())
        if largest < 1.0 + _TOLERANCE:
            break
        weights = weights * means
        weights /= weights.sum()
    return mixture, largest


def numeraire_prices(law: Floats, laws: Floats) -> Floats:
    """The price factor of each cell, (cells,): the numeraire in steps of two, so that prices tell little of a cell.

    Its mean under each of ``laws`` (kinds, cells), above 0, is at most 1, and 1 under one of them. ``law`` (cells,): that of
    strangers, above 0.
    """
    mixture, _ = reverse_projection(law, laws)
    steps = np.exp2(np.floor(np.log2(law / mixture)))
    prices: Floats = steps / (laws @ steps).max()
    return prices


class CellPrices:
    """The price of a row by its cell, in expectation over the random number that breaks ties among cells.

    The smoothed p-values of a row are uniform between those that its ties allow. Where all of them lie in one cell, the price
    is that of the cell; else the mean of the prices of the cells. So the price does not depend on chance, and its mean over
    rows is that of the cells' prices. ``prices`` (cells,).
    """

    def __init__(self, cells: Cells, prices: Floats) -> None:
        self.prices = prices
        self._by_bins = prices.reshape(cells.shape)
        self._edges = [np.array(edges) for edges in cells.edges]
        self._inner = [list(edges[1:-1]) for edges in cells.edges]
        self._shape = cells.shape
        self._list: list[float] = prices.tolist()

    def of(self, lower: Floats, upper: Floats) -> Floats:
        """The price (rows,) of rows whose p-values lie in ``lower`` < p <= ``upper``, both (rows, coordinates)."""
        cells = np.zeros(len(lower), np.int64)
        single: Bools = np.ones(len(lower), np.bool_)
        for place, (edges, bins) in enumerate(zip(self._edges, self._shape, strict=True)):
            first = edges[1:-1].searchsorted(lower[:, place], "right")
            last = edges[1:-1].searchsorted(upper[:, place], "left")
            cells = cells * bins + last
            single &= first == last
        prices = self.prices[cells]
        if not single.all():
            prices[~single] = self._mean(lower[~single], upper[~single])
        return prices

    def of_list(self, lower: Sequence[float], upper: Sequence[float]) -> float:
        """``of`` for one row, bit for bit the same; faster for a few rows."""
        cell = 0
        for place, (inner, bins) in enumerate(zip(self._inner, self._shape, strict=True)):
            last = bisect_left(inner, upper[place])
            if bisect_right(inner, lower[place]) != last:
                return float(self._mean(np.array([lower]), np.array([upper]))[0])
            cell = cell * bins + last
        return self._list[cell]

    def _mean(self, lower: Floats, upper: Floats) -> Floats:
        """The mean price (rows,), one cell after the other, so that a row's price does not depend on the number of rows."""
        shares = [
            np.clip(np.minimum(high[:, None], edges[1:]) - np.maximum(low[:, None], edges[:-1]), 0.0, None)
            / (high - low)[:, None]
            for low, high, edges in zip(lower.T, upper.T, self._edges, strict=True)
        ]
        mean = np.zeros(len(lower))
        for bins, price in np.ndenumerate(self._by_bins):
            share = shares[0][:, bins[0]]
            for other, place in zip(shares[1:], bins[1:], strict=True):
                share = share * other[:, place]
            mean += price * share
        return mean
