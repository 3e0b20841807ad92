"""The search for the law of a convex null that explains counts best: its bounds at each step, and the steps.

The same code searches one histogram and many at once. ``OneHistogram`` and ``ManyHistograms`` say how arrays are reduced: of
one histogram, arrays are (cells,) or (kinds,) and numbers are floats, for numpy's calls cost most there; of many, arrays have
one line per histogram, and numbers are columns (histograms, 1).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from scipy.linalg.lapack import dposv

if TYPE_CHECKING:
    from modeltoll.records import Bools, Floats

__all__ = ["ManyHistograms", "NullSearch", "OneHistogram"]

_TINY = 1e-300
_SLACK = (
    1e-3  # share of a cell that does not exist, which keeps the search inside sum p < 1; falls with the bounds' gap
)
_CENTRING = 0.1  # the barrier that each step aims at, relative to the present one
_STAY_INSIDE = 0.99  # the fraction of the way to the boundary that a step goes at most
_LEAST_DAMPING = 0.1  # of steps while the gap does not fall
_WORSE = 0.1  # a value that is so much of the gap below the best one is left for half the way back

Number = Any  # a float, or a column (histograms, 1)
Truth = Any  # a bool, or a column (histograms, 1) of them


class Reductions(Protocol):
    """How arrays are reduced, and numbers compared and chosen."""

    def new(self, shares: Floats, value: float) -> Number:
        """A number per histogram."""

    def dot(self, left: Floats, right: Floats) -> Number:
        """Sum of left * right."""

    def total(self, array: Floats) -> Number:
        """Sum over the last axis."""

    def highest(self, array: Floats) -> Number:
        """Largest over the last axis."""

    def choose(self, truth: Truth, this: Any, that: Any) -> Any:
        """``this`` where true, else ``that``."""

    def larger(self, this: Number, that: Number) -> Number:
        """The larger number."""

    def smaller(self, this: Number, that: Number) -> Number:
        """The smaller number."""

    def log(self, number: Number) -> Number:
        """Natural logarithm of a number."""

    def every(self, truth: Truth) -> bool:
        """Whether it is true of every histogram."""

    def any(self, truth: Truth) -> bool:
        """Whether it is true of a histogram."""

    def solve(self, matrix: Floats, right: Floats, other: Floats) -> tuple[Floats, Floats]:
        """Solutions of a symmetric system for two right sides."""


class OneHistogram:
    """Of one histogram: arrays (cells,), numbers are floats."""

    def new(self, shares: Floats, value: float) -> float:
        del shares
        return value

    def dot(self, left: Floats, right: Floats) -> float:
        return float(left @ right)

    def total(self, array: Floats) -> float:
        return float(np.add.reduce(array))

    def highest(self, array: Floats) -> float:
        return float(np.maximum.reduce(array))

    def choose(self, truth: bool, this: Any, that: Any) -> Any:
        return this if truth else that

    larger, smaller, log = staticmethod(max), staticmethod(min), staticmethod(math.log)

    def every(self, truth: bool) -> bool:
        return truth

    any = every

    def solve(self, matrix: Floats, right: Floats, other: Floats) -> tuple[Floats, Floats]:
        both: Floats = np.array([right, other]).T
        solved: Floats
        _, solved, fault = dposv(matrix, both)  # by Cholesky, in a third of the time
        if fault:
            solved = np.asarray(np.linalg.solve(matrix, both), np.float64)
        return solved[:, 0], solved[:, 1]


class ManyHistograms:
    """Of many: arrays (histograms, cells), numbers are columns."""

    def new(self, shares: Floats, value: float) -> Floats:
        return np.full((len(shares), 1), value)

    def dot(self, left: Floats, right: Floats) -> Floats:
        summed: Floats = np.einsum("nk,nk->n", left, right)[:, None]
        return summed

    def total(self, array: Floats) -> Floats:
        summed: Floats = array.sum(axis=1, keepdims=True)
        return summed

    def highest(self, array: Floats) -> Floats:
        largest: Floats = array.max(axis=1, keepdims=True)
        return largest

    choose, larger, smaller, log = (
        staticmethod(np.where),
        staticmethod(np.maximum),
        staticmethod(np.minimum),
        staticmethod(np.log),
    )

    def every(self, truth: Bools) -> bool:
        return bool(truth.all())

    def any(self, truth: Bools) -> bool:
        return bool(truth.any())

    def solve(self, matrix: Floats, right: Floats, other: Floats) -> tuple[Floats, Floats]:
        solved = np.asarray(np.linalg.solve(matrix, np.stack([right, other], axis=2)), np.float64)
        return solved[:, :, 0], solved[:, :, 1]


class NullSearch:
    """An interior-point search (primal-dual, see Nocedal and Wright 2006, chapter 14 and 19) for the best weights of kinds.

    For weights w and u = w @ caps the best law is p = min(u, share / m), with the multiplier m at which it sums to 1. Its
    log-likelihood F(w) is concave, with the gradient sum_k (share_k / u_k - m)+ caps_jk. Each step is one of Newton's for
    F under a logarithmic barrier for w >= 0 and for sum p < 1.

    ``caps`` (kinds, cells), of which every cell has a positive one. ``shares``: of the rows in each cell, sum 1.
    """

    def __init__(self, caps: Floats, shares: Floats, of: Reductions) -> None:
        self._of, self._caps, self._shares = of, caps, shares
        self._transposed = caps.T
        self._seen = shares > 0.0
        self._weights: Floats = np.full((*shares.shape[:-1], len(caps)), 1.0 / len(caps))
        self._entropy = of.dot(shares, np.log(np.where(self._seen, shares, 1.0)))
        self._multiplier, self._slack = of.new(shares, 1.0), of.new(shares, _SLACK)
        self._damping, self._gap = of.new(shares, 1.0), of.new(shares, math.inf)
        self._best, self._best_weights = of.new(shares, -math.inf), self._weights
        self._duals: Floats | None = None  # of w >= 0
        self._dual_of_sum = of.new(shares, 1.0)

    def keep(self, chosen: Bools) -> None:
        """Of many, go on with these histograms only."""
        for name, values in vars(self).items():
            if name not in {"_of", "_caps", "_transposed"} and values is not None:
                setattr(self, name, values[chosen])

    def bounds(self) -> tuple[Number, Number, Floats]:
        """At the present weights: a lower bound and an upper bound, per row of the histogram, and share / law of the law
        that the lower bound is of, where there are rows.
        """
        of, shares = self._of, self._shares
        self._u = self._weights @ self._caps
        self._ratios = ratios = shares / self._u
        self._solve_multiplier()
        multiplier, dual = self._multiplier, self._dual_of_sum
        scarcity = np.maximum(ratios, multiplier)  # share / law, where there are rows
        self._gradient = (scarcity - multiplier) @ self._transposed
        self._most = multiplier + of.highest(self._gradient)
        over = np.maximum(scarcity - dual, 0.0) * self._seen
        most = of.smaller(self._most, dual + of.highest(over @ self._transposed))  # of sum share_k p_k / law_k over P
        gap = of.larger(of.log(most), 0.0)
        slower, faster = of.larger(0.5 * self._damping, _LEAST_DAMPING), of.smaller(2.0 * self._damping, 1.0)
        self._damping = of.choose(gap >= self._gap, slower, faster)
        self._gap = gap
        self._value = self._entropy - of.dot(shares, np.log(scarcity))
        rest = self._rest
        without_slack = multiplier * rest / (rest + self._slack)  # the law sums to 1, the same cells being capped
        scarcity = np.maximum(ratios, of.larger(without_slack, _TINY))
        return self._entropy - of.dot(shares, np.log(scarcity)), self._value + gap, scarcity

    def laws(self, scarcity: Floats) -> Floats:
        """The law for what ``bounds`` returned; of cells without rows, 0."""
        return self._shares / scarcity

    def _solve_multiplier(self) -> None:
        """The multiplier m at which sum of min(u, shares / m) + slack / m = 1, with slack > 0.

        Newton's method on the concave function 1 / m -> that sum, from the multiplier of before: the first step leads to the
        side where the sum is below 1, from where the others rise to the solution without passing it.
        """
        of, shares, caps, ratios, slack = self._of, self._shares, self._u, self._ratios, self._slack
        multiplier, before = self._multiplier, None
        for step in range(shares.shape[-1] + 2):
            capped = ratios > multiplier
            if step > 1 and (capped == before).all():
                break  # the next step would lead to the same multiplier
            rest = of.total(np.where(capped, 0.0, shares))
            room = 1.0 - of.total(np.where(capped, caps, 0.0))
            following = (rest + slack) / of.larger(room, _TINY)
            if step == 0:
                following = of.choose(room > 0.0, following, 1.0 + slack)  # so much is capped that the sum is above 1
            else:
                following = of.smaller(following, multiplier)
                if of.every(following >= multiplier):
                    break
            multiplier, before = following, capped
        self._multiplier, self._capped, self._rest = multiplier, capped, rest

    def step(self) -> None:
        """To the next weights."""
        of, weights, multiplier, rest = self._of, self._weights, self._multiplier, self._rest
        if self._duals is None:
            self._duals = (1.02 * self._most - multiplier) - self._gradient
        duals = self._duals
        bend = of.choose(rest > 0.0, multiplier, of.larger(multiplier, self._dual_of_sum))
        bend = bend * multiplier / (rest + self._slack)
        slopes = self._capped @ self._transposed
        barrier = (_CENTRING / weights.shape[-1]) * of.larger(of.dot(weights, duals), 0.3 * self._gap)
        to_barrier, stiffness = barrier / weights, duals / weights
        change = self._newton(bend, slopes, to_barrier, stiffness)
        dual_change = to_barrier - duals - stiffness * change
        length = self._damping * self._longest(change, weights)
        dual_length = self._damping * self._longest(dual_change, duals)
        worse = self._value < self._best - _WORSE * self._gap
        following, best_weights = weights + length * change, weights
        if of.any(worse):
            dual_length = of.choose(worse, 0.0, dual_length)
            following = of.choose(worse, 0.5 * (weights + self._best_weights), following)
            best_weights = of.choose(worse, self._best_weights, weights)
        target = multiplier + bend * of.dot(slopes, change)
        self._dual_of_sum = of.larger(self._dual_of_sum + dual_length * (target - self._dual_of_sum), 0.0)
        self._best, self._best_weights = of.larger(self._best, self._value), best_weights
        self._weights = following / of.total(following)
        self._duals = duals + dual_length * dual_change
        self._slack = barrier

    def _newton(self, bend: Number, slopes: Floats, to_barrier: Floats, stiffness: Floats) -> Floats:
        """Newton's change of the weights, which leaves their sum as it is."""
        of = self._of
        curvature = self._ratios / self._u * self._capped
        hessian = (self._caps * curvature[..., None, :]) @ self._transposed
        hessian += (bend * slopes)[..., :, None] * slopes[..., None, :]
        diagonal = np.einsum("...jj->...j", hessian)
        diagonal += stiffness + 1e-12 * of.highest(diagonal)
        toward, sideways = of.solve(hessian, self._gradient + to_barrier, np.ones_like(slopes))
        change: Floats = toward - of.total(toward) / of.total(sideways) * sideways
        return change

    def _longest(self, change: Floats, values: Floats) -> Number:
        """The longest step, at most 1, that leaves the positive ``values`` positive."""
        return self._of.smaller(1.0, _STAY_INSIDE / self._of.larger(self._of.highest(-change / values), _TINY))
