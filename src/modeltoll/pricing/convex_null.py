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

from modeltoll.pricing.null_search import ManyHistograms, NullSearch, OneHistogram

if TYPE_CHECKING:
    from modeltoll.records import Floats, Integers

__all__ = ["ConvexNull", "NullFit"]

_STEPS = 24
_SLICE = 512  # histograms searched at once, for the sake of memory


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
        above = np.full(number, np.inf) if enough_lower is None else enough_lower
        below = np.full(number, -np.inf) if enough_upper is None else enough_upper
        tolerances = np.broadcast_to(tolerance, (number,))
        rows = counts.sum(axis=1)
        limits = np.array([rows, above, below, tolerances])
        fit = NullFit(np.zeros(number), np.zeros(number), np.zeros(counts.shape))
        places = rows.nonzero()[0]
        if len(places) == 1:
            self._search_one(counts[places[0]], fit, int(places[0]), limits[:, places[0]].tolist())
            return fit
        for first in range(0, len(places), _SLICE):
            some = places[first : first + _SLICE]
            search = NullSearch(self._caps, counts[some] / rows[some, None], ManyHistograms())
            self._search(search, fit, some, limits[:, some, None])
        return fit

    def _search_one(self, counts: Floats, fit: NullFit, place: int, limits: list[float]) -> None:
        """Search one histogram (cells,) and write its bounds into ``fit``. ``limits``: as below."""
        rows, above, below, tolerance = limits
        search = NullSearch(self._caps, counts / rows, OneHistogram())
        lower, upper = -np.inf, np.inf
        for step in range(_STEPS):
            if step:
                search.step()
            value, highest, scarcity = search.bounds()
            if value * rows > lower:
                lower, fit.laws[place] = value * rows, search.laws(scarcity)
            upper = min(upper, highest * rows)
            if upper - lower < tolerance or lower > above or upper < below:
                break
        fit.lower[place], fit.upper[place] = lower, upper

    @staticmethod
    def _search(search: NullSearch, fit: NullFit, places: Integers, limits: Floats) -> None:
        """Search the histograms at ``places`` and write their bounds into ``fit``.

        ``limits`` (4, histograms, 1): rows, and the limits and the tolerance of ``fit``.
        """
        lower, upper = np.full((len(places), 1), -np.inf), np.full((len(places), 1), np.inf)
        for _ in range(_STEPS):
            rows, above, below, tolerances = limits
            value, highest, scarcity = search.bounds()
            value, highest = value * rows, highest * rows
            better = (value > lower)[:, 0]
            fit.laws[places[better]] = search.laws(scarcity)[better]
            lower, upper = np.fmax(lower, value), np.fmin(upper, highest)
            open_ = ((upper - lower >= tolerances) & (lower <= above) & (upper >= below))[:, 0]
            if not open_.all():
                fit.lower[places], fit.upper[places] = lower[:, 0], upper[:, 0]
                if not open_.any():
                    return
                places, lower, upper, limits = places[open_], lower[open_], upper[open_], limits[:, open_]
                search.keep(open_)
            search.step()
        fit.lower[places], fit.upper[places] = lower[:, 0], upper[:, 0]
