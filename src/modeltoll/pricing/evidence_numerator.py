"""What the evidence expects of a caller who is not honest: a fixed mixture of laws over the cells.

The likelihood of the counts, averaged over the mixture, is the numerator of the evidence. Any mixture keeps the promise to
honest callers; a good one finds thieves early. A quarter of the weight is on two Dirichlet distributions, one about the laws of
the kinds and one about the rare cells; the rest on the laws of known strangers, each pure and thinned by all traffic, as of a
thief who hides stolen rows among honest ones. Pure laws have the most weight, for a thief with many accounts sends few rows from
each, all of them stolen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import gammaln

from modeltoll.errors import CalibrationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modeltoll.pricing.kinds import FittedStranger
    from modeltoll.records import Floats

__all__ = ["DirichletMixture", "EvidenceNumerator"]

# The weight of each share of stolen rows.
_THINNED = {1.0: 1 / 2, 1 / 2: 1 / 4, 1 / 4: 1 / 8, 1 / 8: 1 / 16, 1 / 16: 1 / 16}
_UNKNOWN = 1 / 4  # weight of strangers who are not known, where some are
_SMOOTHING = 0.02  # weight of the kinds' mean law in a stranger's law, per row of the stranger
_HONEST_ROWS, _RARE_ROWS, _LEAST_ROWS = 6.0, 2.0, 0.02  # of the priors, in rows; the last in each cell


@dataclass(frozen=True, slots=True, eq=False)
class DirichletMixture:
    """Dirichlet distributions over the cells: ``priors`` (distributions, cells), their sums ``totals`` (distributions,).

    The logarithm of the mean likelihood of counts c of N rows is the log-sum-exp over the distributions of ``log_constants``
    - gammaln(totals + N) + sum over the cells of gammaln(priors + c).
    """

    priors: Floats
    totals: Floats
    log_constants: Floats


class EvidenceNumerator:
    """``laws`` (kinds, cells): those of the kinds, all traffic first. ``shape``: the number of bins of each coordinate.

    Raises:
        CalibrationError: a stranger has no rows or other cells.
    """

    def __init__(self, laws: Floats, shape: Sequence[int], strangers: Sequence[FittedStranger] = ()) -> None:
        mean = laws.mean(axis=0) / laws.mean(axis=0).sum()
        rarity = reduce(np.multiply.outer, [1.0 / np.arange(1, bins + 1) for bins in shape]).ravel()
        priors = [_HONEST_ROWS * mean, _RARE_ROWS * rarity / rarity.sum()]
        self._priors: Floats = np.array(priors)[:, None, :] + _LEAST_ROWS
        self._totals = self._priors.sum(axis=2)
        self._log_strangers = self._thinned(mean, laws[0] / laws[0].sum(), strangers)
        unknown = 1.0 if self._log_strangers is None else _UNKNOWN
        self._constants: Floats = gammaln(self._totals) - gammaln(self._priors).sum(axis=2) + math.log(unknown / 2.0)
        if self._log_strangers is not None:
            weights = np.tile([*_THINNED.values()], len(strangers)) / len(strangers)
            self._log_weights: Floats = np.log((1.0 - _UNKNOWN) * weights)[:, None]

    @staticmethod
    def _thinned(mean: Floats, everything: Floats, strangers: Sequence[FittedStranger]) -> Floats | None:
        """Logarithms of the strangers' laws, (strangers * 5, cells)."""
        for stranger in strangers:
            if stranger.counts.shape != mean.shape or not stranger.counts.sum() > 0:
                raise CalibrationError(
                    f"the stranger '{stranger.name}' has no rows or other cells than the calibration"
                )
        if not strangers:
            return None
        counts = np.array([stranger.counts for stranger in strangers], dtype=np.float64)
        pure = (counts / counts.sum(axis=1, keepdims=True) + _SMOOTHING * mean) / (1.0 + _SMOOTHING)
        log_laws: Floats = np.log([share * law + (1.0 - share) * everything for law in pure for share in _THINNED])
        return log_laws

    @property
    def dirichlet(self) -> DirichletMixture | None:
        """The whole numerator, where no strangers are known; else None."""
        if self._log_strangers is not None:
            return None
        return DirichletMixture(self._priors[:, 0, :], self._totals[:, 0], self._constants[:, 0])

    def log(self, counts: Floats, rows: Floats | None = None) -> Floats:
        """Logarithm of the numerator (histograms,) for ``counts`` (histograms, cells), whose sums are ``rows``."""
        rows = counts.sum(axis=1) if rows is None else rows
        terms: Floats = self._constants + gammaln(self._priors + counts).sum(axis=2) - gammaln(self._totals + rows)
        if self._log_strangers is not None:
            terms = np.concatenate([terms, self._log_strangers @ counts.T + self._log_weights])
        log_numerator: Floats = np.logaddexp.reduce(terms, axis=0)
        return log_numerator
