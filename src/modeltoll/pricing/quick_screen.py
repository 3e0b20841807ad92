"""A quick upper bound of the evidence of one histogram, without arrays: it clears nearly every request of an honest caller.

The supremum of the likelihood over the null is at least the likelihood of any law in it. So log M <= log numerator
- sum c_k log q_k - N log(1 + rho0) for each kind's law q. Without known strangers the numerator is a mean of Dirichlet
mixtures, whose logarithm is a sum of one term for each cell: it depends on the cell and its count alone, and is looked up. A
mean of k mixtures is surely below a limit where each of them, times k, is.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import gammaln

if TYPE_CHECKING:
    from modeltoll.pricing.evidence_numerator import DirichletMixture
    from modeltoll.records import Floats

__all__ = ["QuickScreen"]

_TABULATED = 512  # counts of a cell, from 0; the terms of larger ones are computed


class QuickScreen:
    """``laws`` (few, cells): laws in the null, the likeliest first. ``tax``: log(1 + rho0), per row. Pure."""

    def __init__(self, mixture: DirichletMixture, laws: Floats, tax: float) -> None:
        self._priors: list[list[float]] = mixture.priors.tolist()
        constants = (mixture.log_constants + math.log(len(self._priors))).tolist()
        self._beside: list[tuple[float, float]] = list(zip(constants, mixture.totals.tolist(), strict=True))
        self._log_laws: list[list[float]] = np.log(laws).tolist()
        self._tax = tax

    def is_below(self, counts: tuple[int, ...], limit: float) -> bool:
        """Whether log M of these counts (cells,) is surely below ``limit``, which is so by the first law or by another one."""
        rows = sum(counts)
        spare = limit + self._tax * rows
        left = [spare - constant + math.lgamma(total + rows) for constant, total in self._beside]
        for law in range(len(self._log_laws)):  # noqa: SIM110  without the frame of a generator
            if self._is_within(left, counts, law):
                return True
        return False

    def _is_within(self, left: list[float], counts: tuple[int, ...], law: int) -> bool:
        """Whether the sum of the cells' terms by one law is below what is ``left`` of the limit, under each prior."""
        try:
            for terms, most in zip(self._tables[law], left, strict=True):
                found = sum([term[count] for term, count in zip(terms, counts, strict=True)])
                if not found < most:  # nor does a NaN clear
                    return False
        except IndexError:
            sums = [self._sum(counts, law, priors) for priors in self._priors]
            return all(found < most for found, most in zip(sums, left, strict=True))
        return True

    def _sum(self, counts: tuple[int, ...], law: int, priors: list[float]) -> float:
        cells = zip(counts, priors, self._log_laws[law], strict=True)
        return sum([math.lgamma(prior + count) - count * log for count, prior, log in cells])

    @cached_property
    def _tables(self) -> list[list[list[list[float]]]]:
        """For each law, prior and cell the terms by the cell's count."""
        counts = np.arange(_TABULATED)
        gammas = gammaln(np.array(self._priors)[:, :, None] + counts)
        return [(gammas - np.array(law)[None, :, None] * counts).tolist() for law in self._log_laws]
