"""Suspicion: a sequential test of the histogram of a caller's p-values, and the surcharge that follows from it.

The smoothed p-values of an honest caller are uniform; those of a thief are not, however rows are mixed. The evidence is
the Bayes factor of a Dirichlet prior over the bins against the uniform distribution, less a tolerance per row. As a
product over rows it is a test martingale, so the evidence against an honest caller ever reaches 1 / alpha with
probability at most alpha (Ville 1939).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import gammaln

from modeltoll.errors import CalibrationError
from modeltoll.pricing.grouped import grouped_cumsum, grouped_rank

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modeltoll.records import Bools, Floats, Integers

__all__ = ["GROUP_SETTLED_ROWS", "Suspicion", "SuspicionTerms", "bin_edges"]

GROUP_SETTLED_ROWS = 200  # settled rows from which on a caller pays no surcharge of its groups
_MAXIMUM_OF_GROUPS, _RARE_OF_GROUPS = 10.0, 0.1  # bounds, so that nobody can make a neighbour a thief

_EDGES = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.97, 0.99, 1.0)


@dataclass(frozen=True, slots=True)
class SuspicionTerms:
    """The parameters of suspicion and of its surcharge.

    ``alpha``: bound on the probability that an honest caller is ever suspected. ``rho``: the tolerance; a caller whose
    density is at most 1 + rho times that of the calibration in every bin counts as honest. ``maximum``: the largest
    surcharge, a multiplier. ``rare_below``: only rows whose smallest p-value is below it are surcharged.
    ``group_maximum``, ``group_rare_below``: the same for the surcharge of a suspected group, at most 10 and 0.1. It is for
    callers with fewer than ``GROUP_SETTLED_ROWS`` settled rows.

    Raises:
        CalibrationError: a term is out of range.
    """

    alpha: float = 1e-6
    rho: float = 0.25
    maximum: float = 100.0
    rare_below: float = 0.5
    group_maximum: float = 10.0
    group_rare_below: float = 0.1

    def __post_init__(self) -> None:
        ranges = {"alpha": (1e-300, 0.5), "rho": (0.0, 10.0)}
        ranges |= {"maximum": (1.0, 1e6), "rare_below": (0.0, 1.0)}
        ranges |= {"group_maximum": (1.0, _MAXIMUM_OF_GROUPS), "group_rare_below": (0.0, _RARE_OF_GROUPS)}
        for name, (low, high) in ranges.items():
            if not low <= getattr(self, name) <= high:
                raise CalibrationError(f"'suspicion.{name}' must lie in {low:g}..{high:g}")


def bin_edges(honest_rows: int) -> tuple[float, ...]:
    """The edges of the p-value bins, from 0 to 1, for ``honest_rows`` >= 1 calibration rows.

    The standard edges, merged from the left until every bin is at least 1 / (honest_rows + 1) wide, which is the
    resolution of the p-values.
    """
    least = 1.0 / (honest_rows + 1)
    edges = [0.0]
    for edge in _EDGES[1:-1]:
        if edge - edges[-1] >= least and 1.0 - edge >= least:
            edges.append(edge)
    return (*edges, 1.0)


class Suspicion:
    """The test for one number of calibration rows. ``bin_count``: number of bins. All methods are pure."""

    def __init__(self, honest_rows: int, terms: SuspicionTerms) -> None:
        self.terms = terms
        self.edges = bin_edges(honest_rows)
        self.bin_count = len(self.edges) - 1
        widths = np.diff(self.edges)
        self._inner = np.array(self.edges[1:-1])
        self._log_widths = np.log(widths)
        self._prior = 0.5 * self.bin_count * widths + 0.02
        self._prior_total = float(self._prior.sum())
        self._log_prior = math.lgamma(self._prior_total) - float(gammaln(self._prior).sum())
        self._log_alpha = math.log(terms.alpha)
        self._log_tolerance = math.log1p(terms.rho)
        self._inner_list: list[float] = self._inner.tolist()
        self._prior_list: list[float] = self._prior.tolist()
        self._log_width_list: list[float] = self._log_widths.tolist()

    def bins_of(self, smoothed: Floats) -> Integers:
        """The bin of each smoothed p-value in 0..1, in any shape. A value on an edge belongs to the lower bin."""
        return self._inner.searchsorted(smoothed)

    def bins_of_list(self, smoothed: Sequence[float]) -> list[int]:
        """``bins_of`` for a list; faster for a few numbers."""
        return [bisect_left(self._inner_list, p) for p in smoothed]

    def log_bayes_factors(self, counts: Floats) -> Floats:
        """Log Bayes factor of "another distribution" against "uniform" for each histogram, without tolerance.

        ``counts`` (..., bins) may be fractional after decay; the result has shape (...,). Closed form: the
        Dirichlet-multinomial over the uniform multinomial, with prior A_k = 0.5 K q_k + 0.02 for K bins of width q_k.
        """
        return self._log_bayes_factors(counts, counts.sum(axis=-1))

    def _log_bayes_factors(self, counts: Floats, totals: Floats) -> Floats:
        gained = gammaln(self._prior + counts).sum(axis=-1) - counts @ self._log_widths
        log_factors: Floats = self._log_prior - gammaln(self._prior_total + totals) + gained
        return log_factors

    def log_evidence(self, counts: Floats) -> Floats:
        """Log of M, the evidence against a caller: the mean of the Bayes factors over the measures, less the tolerance.

        ``counts`` (..., measures, bins), where all measures count the same rows; the result has shape (...,).
        """
        rows = counts.sum(axis=-1)
        mean = np.logaddexp.reduce(self._log_bayes_factors(counts, rows), axis=-1) - math.log(counts.shape[-2])
        log_evidence: Floats = mean - rows[..., 0] * self._log_tolerance
        return log_evidence

    def running_log_evidence(self, bins: Integers, accounts: Integers, counted: Bools) -> Floats:
        """Log of M after each row, (rows,), for interleaved rows of many accounts, without decay.

        ``bins`` (rows, measures). ``accounts`` (rows,): the account of each row. ``counted`` (rows,): False for rows
        that the account has sent before. M is the product over rows of the predictive probability of the bin over its
        width, which equals the closed form of ``log_evidence``.
        """
        rows_before = grouped_cumsum(counted, accounts) - counted
        spread = np.log(self._prior_total + rows_before)
        factors = []
        for column in bins.T:
            same_before = grouped_rank(accounts * self.bin_count + column, counted)
            gains = np.log(self._prior[column] + same_before) - spread - self._log_widths[column]
            factors.append(grouped_cumsum(np.where(counted, gains, 0.0), accounts))
        mean = np.logaddexp.reduce(factors, axis=0) - math.log(len(factors))
        log_evidence: Floats = mean - (rows_before + counted) * self._log_tolerance
        return log_evidence

    def log_evidence_of(self, counts: Sequence[Sequence[float]]) -> float:
        """``log_evidence`` of one account's counts, one row of bins per measure.

        Computed for every request; numpy would take ten times as long for so few numbers.
        """
        logs = [self._log_bayes_factor(row) for row in counts]
        highest = max(logs)
        mean = highest + math.log(sum([math.exp(log - highest) for log in logs]) / len(logs))
        return mean - sum(counts[0]) * self._log_tolerance

    def _log_bayes_factor(self, counts: Sequence[float]) -> float:
        gained = self._log_prior - math.lgamma(self._prior_total + sum(counts))
        for prior, count, log_width in zip(self._prior_list, counts, self._log_width_list, strict=True):
            gained += math.lgamma(prior + count) - count * log_width
        return gained

    def surcharge(self, counts: Floats) -> Floats:
        """The multiplier on rare rows, shape (...,), from ``counts`` (..., measures, bins)."""
        return self.surcharge_at(self.log_evidence(counts))

    def surcharge_at(self, log_evidence: float | Floats, *, group: bool = False) -> Floats:
        """min(maximum, sqrt(alpha M)) where M >= 1 / alpha, else 1, in any shape; ``group`` selects the maximum."""
        highest = math.log(self.terms.group_maximum if group else self.terms.maximum)
        excess = 0.5 * (self._log_alpha + log_evidence)
        surcharge: Floats = np.exp(np.minimum(np.maximum(excess, 0.0), highest))
        return surcharge
