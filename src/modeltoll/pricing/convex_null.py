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
    from modeltoll.records import Floats

__all__ = ["ConvexNull", "NullFit"]

_STEPS = 60
_POWER = 1.6  # of the multiplicative step; 1 is expectation maximisation, which is slower
_TINY = 1e-300
_LEAST_WEIGHT = 1e-30  # a kind whose weight has become 0 could not come back


@dataclass(frozen=True, slots=True, eq=False)
class NullFit:
    """Bounds of the largest log-likelihood over P, each (histograms,): ``lower`` <= it <= ``upper``.

    ``laws`` (histograms, cells): laws in P of likelihood ``lower``; of cells without rows, 0.
    """

    lower: Floats
    upper: Floats
    laws: Floats


def _multiplier(shares: Floats, caps: Floats, ratios: Floats, start: Floats) -> Floats:
    """The multiplier m (histograms,) at which min(caps, shares / m) sums to 1; 0 where all the caps that matter fit.

    ``ratios`` = shares / caps. Newton's method on the concave function 1 / m -> that sum, from ``start``: one step from
    any place leads to its near side, from where it rises to the solution without passing it.
    """
    multiplier = start
    for step in range(shares.shape[1] + 2):
        capped = ratios > multiplier[:, None]
        rest = np.where(capped, 0.0, shares).sum(axis=1)
        room = 1.0 - np.where(capped, caps, 0.0).sum(axis=1)
        following = np.where(rest > 0.0, rest / np.maximum(room, _TINY), 0.0)
        if step == 0:  # on the far side: too much is capped, so start again from nothing
            following[(room < 0.0) | ((rest > 0.0) & (room <= 0.0))] = 1.0
        else:
            np.minimum(following, multiplier, out=following)
        if (following >= multiplier).all() and step:
            break
        multiplier = following
    return multiplier


class ConvexNull:
    """P for ``caps`` (kinds, cells) >= 0 and the tolerance ``rho`` >= 0. All methods are pure."""

    def __init__(self, caps: Floats, rho: float) -> None:
        self._caps: Floats = np.ascontiguousarray((1.0 + rho) * caps)
        self._kinds: Floats = np.ascontiguousarray(self._caps.T)

    def fit(
        self,
        counts: Floats,
        enough_lower: Floats | None = None,
        enough_upper: Floats | None = None,
        tolerance: Floats | float = 0.1,
    ) -> NullFit:
        """Bounds for ``counts`` (histograms, cells), each histogram searched until the first of: its bounds differ by less
        than ``tolerance`` nats, ``lower`` exceeds ``enough_lower``, ``upper`` is below ``enough_upper``, or 60 steps.
        """
        number, cells = counts.shape
        lower, upper, laws = np.full(number, -np.inf), np.full(number, np.inf), np.zeros((number, cells))
        above = np.full(number, np.inf) if enough_lower is None else enough_lower
        below = np.full(number, -np.inf) if enough_upper is None else enough_upper
        tolerances = np.broadcast_to(tolerance, (number,))
        rows = counts.sum(axis=1)
        lower[rows == 0.0] = upper[rows == 0.0] = 0.0
        places = np.flatnonzero(rows > 0.0)
        shares = counts[places] / rows[places, None]
        entropy = _sum_log(shares, shares)
        weights = np.full((len(places), len(self._caps)), 1.0 / len(self._caps))
        multiplier = np.ones(len(places))
        for _ in range(_STEPS):
            if not len(places):
                break
            caps = np.minimum(weights @ self._caps, 1.0)
            ratios = shares / np.maximum(caps, _TINY)
            multiplier = _multiplier(shares, caps, ratios, multiplier)
            scarcity = np.maximum(ratios, multiplier[:, None])  # share / law, where there are rows
            gains = multiplier[:, None] + np.maximum(ratios - multiplier[:, None], 0.0) @ self._kinds
            most = gains.max(axis=1)
            value = rows[places] * (entropy - _sum_log(shares, scarcity))
            better = value > lower[places]
            lower[places[better]] = value[better]
            laws[places[better]] = shares[better] / np.maximum(scarcity[better], _TINY)
            upper[places] = np.minimum(upper[places], value + rows[places] * np.maximum(np.log(most), 0.0))
            open_ = upper[places] - lower[places] >= tolerances[places]
            open_ &= (lower[places] <= above[places]) & (upper[places] >= below[places])
            weights *= (gains / most[:, None]) ** _POWER
            weights /= weights.sum(axis=1, keepdims=True)
            np.maximum(weights, _LEAST_WEIGHT, out=weights)
            if not open_.all():
                places, shares, entropy = places[open_], shares[open_], entropy[open_]
                weights, multiplier = weights[open_], multiplier[open_]
        return NullFit(lower, upper, laws)


def _sum_log(shares: Floats, values: Floats) -> Floats:
    """Sum over the cells of share * log value, (histograms,); 0 of cells without rows."""
    total: Floats = (shares * np.log(np.where(shares > 0.0, np.maximum(values, _TINY), 1.0))).sum(axis=1)
    return total
