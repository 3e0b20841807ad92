"""The laws that count as honest, a convex set, and how well the best of them explains counts: with a certificate.

P = { p : sum p <= 1, p_k <= (1 + rho) h_k for some h in the convex hull of the kinds' caps }. The largest value of
sum c_k log p_k over P has no closed form. Every step of the search yields a lower bound, from a law in P, and an upper
bound, from the concavity of the logarithm: with f = c / N and any p0 > 0, log(p / p0) averaged by f is at most
log sum_k f_k p_k / p0_k, a linear function of p, whose largest value over P a Lagrange multiplier bounds. So the upper
bound holds wherever the search stops, and evidence computed from it is never too large.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from modeltoll.records import Bools, Floats, Integers

__all__ = ["ConvexNull", "NullFit"]

_STEPS = 24
_SLICE = 512  # histograms searched at once, for the sake of memory
_TINY = 1e-300
_SLACK = (
    1e-3  # share of a cell that does not exist, which keeps the search inside sum p < 1; falls with the bounds' gap
)
_CENTRING = 0.1  # the barrier that each step aims at, relative to the present one
_STAY_INSIDE = 0.99  # the fraction of the way to the boundary that a step goes at most
_LEAST_DAMPING = 0.1  # of steps while the gap does not fall
_WORSE = 0.1  # a value that is so much of the gap below the best one is left for half the way back


@dataclass(frozen=True, slots=True, eq=False)
class NullFit:
    """Bounds of the largest log-likelihood over P, each (histograms,): ``lower`` <= it <= ``upper``.

    ``laws`` (histograms, cells): laws in P of likelihood ``lower``; of cells without rows, 0.
    """

    lower: Floats
    upper: Floats
    laws: Floats


class ConvexNull:
    """P for ``caps`` (kinds, cells) >= 0, of which every cell has a positive one, and the tolerance ``rho`` >= 0. Pure."""

    def __init__(self, caps: Floats, rho: float) -> None:
        self._caps: Floats = np.ascontiguousarray((1.0 + rho) * caps)

    def fit(
        self,
        counts: Floats,
        enough_lower: Floats | None = None,
        enough_upper: Floats | None = None,
        tolerance: Floats | float = 0.1,
    ) -> NullFit:
        """Bounds for ``counts`` (histograms, cells), each histogram searched until the first of: its bounds differ by less
        than ``tolerance`` nats, ``lower`` exceeds ``enough_lower``, ``upper`` is below ``enough_upper``, or 24 steps.
        """
        number = len(counts)
        fit = NullFit(np.zeros(number), np.zeros(number), np.zeros(counts.shape))
        above = np.full(number, np.inf) if enough_lower is None else enough_lower
        below = np.full(number, -np.inf) if enough_upper is None else enough_upper
        tolerances = np.broadcast_to(tolerance, (number,))
        rows = counts.sum(axis=1)
        places = np.flatnonzero(rows > 0.0)
        for first in range(0, len(places), _SLICE):
            some = places[first : first + _SLICE]
            search = _Search(self._caps, counts[some] / rows[some, None])
            self._search(search, fit, some, rows, (above, below, tolerances))
        return fit

    @staticmethod
    def _search(
        search: _Search, fit: NullFit, places: Integers, rows: Floats, limits: tuple[Floats, Floats, Floats]
    ) -> None:
        """Search the histograms at ``places`` and write their bounds into ``fit``."""
        above, below, tolerances = limits
        fit.lower[places], fit.upper[places] = -np.inf, np.inf
        for _ in range(_STEPS):
            value, highest, laws = search.bounds()
            value, highest = value * rows[places], highest * rows[places]
            better = value > fit.lower[places]
            fit.lower[places[better]], fit.laws[places[better]] = value[better], laws[better]
            fit.upper[places] = np.fmin(fit.upper[places], highest)
            open_ = fit.upper[places] - fit.lower[places] >= tolerances[places]
            open_ &= (fit.lower[places] <= above[places]) & (fit.upper[places] >= below[places])
            if not open_.all():
                places = places[open_]
                if not len(places):
                    return
                search.keep(open_)
            search.step()


class _Search:
    """An interior-point search (primal-dual, see Nocedal and Wright 2006, chapter 14 and 19) for the best weights of kinds.

    For weights w and u = w @ caps the best law is p = min(u, share / m), with the multiplier m at which it sums to 1. Its
    log-likelihood F(w) is concave, with the gradient sum_k (share_k / u_k - m)+ caps_jk. Each step is one of Newton's for
    F under a logarithmic barrier for w >= 0 and for sum p < 1. All arrays have one line per histogram.
    """

    def __init__(self, caps: Floats, shares: Floats) -> None:
        self._caps, self._shares = caps, shares
        self._weights = np.full((len(shares), len(caps)), 1.0 / len(caps))
        self._entropy: Floats = _sum_log(shares, shares)
        self._multiplier = np.ones(len(shares))
        self._slack = np.full(len(shares), _SLACK)
        self._damping, self._gap = np.ones(len(shares)), np.full(len(shares), np.inf)
        self._best, self._best_weights = np.full(len(shares), -np.inf), self._weights
        self._duals: Floats | None = None  # of w >= 0
        self._dual_of_sum = np.ones(len(shares))

    def keep(self, chosen: Bools) -> None:
        """Go on with these histograms only."""
        for name, values in vars(self).items():
            if name != "_caps" and values is not None:
                setattr(self, name, values[chosen])

    def bounds(self) -> tuple[Floats, Floats, Floats]:
        """At the present weights: a lower bound and an upper bound, per row of the histogram, and the law."""
        self._u = self._weights @ self._caps
        self._ratios = self._shares / np.maximum(self._u, _TINY)
        self._multiplier = _multiplier(self._shares, self._u, self._ratios, self._slack, self._multiplier)
        multiplier = self._multiplier[:, None]
        scarcity = np.maximum(self._ratios, multiplier)  # share / law, where there are rows
        self._gradient = np.maximum(self._ratios - multiplier, 0.0) @ self._caps.T
        self._most = self._multiplier + self._gradient.max(axis=1)
        most = np.minimum(self._most, self._most_at(scarcity, self._dual_of_sum))
        gap = np.maximum(np.log(most), 0.0)
        self._damping = np.where(
            gap >= self._gap, np.maximum(0.5 * self._damping, _LEAST_DAMPING), np.minimum(2.0 * self._damping, 1.0)
        )
        self._gap = gap
        self._value = self._entropy - _sum_log(self._shares, scarcity)
        scarcity = np.maximum(self._ratios, self._without_slack()[:, None])
        value = self._entropy - _sum_log(self._shares, scarcity)
        return value, self._value + gap, self._shares / np.maximum(scarcity, _TINY)

    def _without_slack(self) -> Floats:
        """The multiplier at which the law sums to 1, the cells that are capped being the same."""
        rest = np.where(self._ratios > self._multiplier[:, None], 0.0, self._shares).sum(axis=1)
        multiplier: Floats = self._multiplier * rest / (rest + self._slack)
        return multiplier

    def _most_at(self, scarcity: Floats, multiplier: Floats) -> Floats:
        """Upper bound of sum share_k p_k / law_k over P, from any multiplier of the sum."""
        over = np.where(self._shares > 0.0, np.maximum(scarcity - multiplier[:, None], 0.0), 0.0)
        most: Floats = multiplier + (over @ self._caps.T).max(axis=1)
        return most

    def step(self) -> None:
        """To the next weights."""
        weights, multiplier = self._weights, self._multiplier
        kinds = weights.shape[1]
        if self._duals is None:
            self._duals = (1.02 * self._most - multiplier)[:, None] - self._gradient
        duals = self._duals
        capped = self._ratios > multiplier[:, None]
        rest = np.where(capped, 0.0, self._shares).sum(axis=1)
        uncapped = rest > 0.0
        bend = (
            np.where(uncapped, multiplier, np.maximum(multiplier, self._dual_of_sum))
            * multiplier
            / (rest + self._slack)
        )
        slopes = capped @ self._caps.T
        curvature = np.where(capped, self._ratios / np.maximum(self._u, _TINY), 0.0)
        hessian = (self._caps * curvature[:, None, :]) @ self._caps.T
        hessian += bend[:, None, None] * slopes[:, :, None] * slopes[:, None, :]
        complementarity = (weights * duals).sum(axis=1)
        barrier = _CENTRING / kinds * np.maximum(complementarity, 0.3 * self._gap)[:, None]
        diagonal = np.einsum("njj->nj", hessian)
        diagonal += duals / weights + 1e-12 * diagonal.max(axis=1, keepdims=True)
        right = np.stack([self._gradient + barrier / weights, np.ones_like(weights)], axis=2)
        solved = np.linalg.solve(hessian, right)
        level = solved[:, :, 0].sum(axis=1) / solved[:, :, 1].sum(axis=1)
        change = solved[:, :, 0] - level[:, None] * solved[:, :, 1]
        dual_change = barrier / weights - duals - duals / weights * change
        worse = self._value < self._best - _WORSE * self._gap
        length = self._damping * _longest(change, weights)
        dual_length = np.where(worse, 0.0, self._damping * _longest(dual_change, duals))
        target = multiplier + bend * (slopes * change).sum(axis=1)
        self._dual_of_sum = np.maximum(self._dual_of_sum + dual_length * (target - self._dual_of_sum), 0.0)
        following = np.where(worse[:, None], 0.5 * (weights + self._best_weights), weights + length[:, None] * change)
        self._best_weights = np.where(worse[:, None], self._best_weights, weights)
        self._best = np.maximum(self._best, self._value)
        self._weights = following / following.sum(axis=1, keepdims=True)
        self._duals = duals + dual_length[:, None] * dual_change
        self._slack = barrier[:, 0]


def _longest(change: Floats, values: Floats) -> Floats:
    """The longest step, at most 1, that leaves the positive ``values`` positive."""
    length: Floats = np.minimum(1.0, _STAY_INSIDE / np.maximum((-change / values).max(axis=1), _TINY))
    return length


def _multiplier(shares: Floats, caps: Floats, ratios: Floats, slack: Floats, start: Floats) -> Floats:
    """The multiplier m (histograms,) at which sum of min(caps, shares / m) + slack / m = 1, with slack > 0.

    ``ratios`` = shares / caps. Newton's method on the concave function 1 / m -> that sum, from ``start``: the first step
    leads to the side where the sum is below 1, from where the others rise to the solution without passing it.
    """
    multiplier = start
    for step in range(shares.shape[1] + 2):
        capped = ratios > multiplier[:, None]
        rest = np.where(capped, 0.0, shares).sum(axis=1) + slack
        room = 1.0 - np.where(capped, caps, 0.0).sum(axis=1)
        following = rest / np.maximum(room, _TINY)
        if step == 0:
            following = np.where(room > 0.0, following, 1.0 + slack)  # so much is capped that the sum is above 1
        else:
            np.minimum(following, multiplier, out=following)
            if (following >= multiplier).all():
                break
        multiplier = following
    return multiplier


def _sum_log(shares: Floats, values: Floats) -> Floats:
    """Sum over the cells of share * log value, (histograms,); 0 of cells without rows."""
    total: Floats = (shares * np.log(np.where(shares > 0.0, np.maximum(values, _TINY), 1.0))).sum(axis=1)
    return total
