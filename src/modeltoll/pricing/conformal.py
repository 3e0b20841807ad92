"""The default tariff: a row is priced by how rare its leak is among honest rows, whoever sends it.

The price factor of a row with conformal p-value p (Vovk et al. 2005) is (1 - g) p^(-g), a p-to-e calibrator (Vovk and
Wang 2021): its mean over honest rows is at most 1, for every leak measure and every data distribution. A weighted
mean of such factors over several measures keeps that mean, however dependent the measures are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from modeltoll.errors import CalibrationError
from modeltoll.pricing.suspicion import Suspicion
from modeltoll.pricing.tariff import checked_values
from modeltoll.records import Assessment, Work

if TYPE_CHECKING:
    from modeltoll.pricing.calibration import Calibration
    from modeltoll.records import Account, Floats, Integers, Leaks

__all__ = ["ConformalTariff"]

_DROPPED_BITS = 28  # of a double's 52: what is left tells values apart that differ by 6e-8 of their size
_HALF = np.int64(1 << (_DROPPED_BITS - 1))


def _grains(values: Floats) -> Integers:
    """Leaks >= 0 as integers in the same order, rounded to 24 bits.

    Two readings of one leak that differ in their last bits, as by another batch size, must remain a tie: where many
    honest rows tie, the next double above them would look rare.
    """
    bits: Integers = np.ascontiguousarray(values + 0.0).view(np.int64)  # + 0.0 makes 0.0 of -0.0
    return (bits + _HALF) >> _DROPPED_BITS


class ConformalTariff:
    """The tariff of one calibration. Pure; one row of two measures is assessed in some tens of microseconds."""

    def __init__(self, calibration: Calibration) -> None:
        self.calibration = calibration
        self.identity = calibration.identity
        self.measures = calibration.measures
        self.suspicion = Suspicion(calibration.honest, calibration.suspicion)
        self.shape = (len(calibration.measures), self.suspicion.bins)
        self._honest = [_grains(scores) for scores in calibration.scores]
        # By the number of honest scores at or above a row's:
        self._p_values = np.arange(1, calibration.honest + 2) / (calibration.honest + 1)
        self._factors = (1.0 - calibration.g) * self._p_values**-calibration.g

    def assess(self, leaks: Leaks, rng: np.random.Generator) -> Assessment:
        """Price each row: p = (1 + #{s_i >= s}) / (n + 1) per measure, factor = weighted mean of (1 - g) p^(-g).

        The bins are those of the smoothed p = (#{s_i > s} + U (1 + #{s_i = s})) / (n + 1), U uniform from ``rng``,
        which is exactly uniform for honest rows even where scores are tied.

        Raises:
            CalibrationError: the leaks are of other measures than this tariff prices.
            AnswerError: a leak is negative or not finite.
        """
        grains = _grains(checked_values(leaks, self.measures))
        at_least, above = np.empty_like(grains), np.empty_like(grains)
        factors = np.zeros(len(grains))
        honest = self.calibration.honest
        for column, (scores, weight) in enumerate(zip(self._honest, self.calibration.weights, strict=True)):
            at_least[:, column] = honest - scores.searchsorted(grains[:, column], "left")
            above[:, column] = honest - scores.searchsorted(grains[:, column], "right")
            factors += weight * self._factors[at_least[:, column]]
        smoothed = (above + rng.random(above.shape) * (1 + at_least - above)) / (honest + 1)
        return Assessment(factors, self._p_values[at_least.min(axis=1)], self.suspicion.place(smoothed))

    def work(self, assessment: Assessment, account: Account) -> Work:
        """unit * (the rows' factors, rare rows times the surcharge where the caller is suspected) + the entry toll.

        Raises:
            CalibrationError: the account's counts are not of this tariff's shape.
        """
        counts = np.array(account.counts)
        if counts.shape != self.shape:
            raise CalibrationError(
                "the account was kept under another tariff", private=f"counts of shape {counts.shape}, not {self.shape}"
            )
        surcharge = float(self.suspicion.surcharge(counts))
        factors = assessment.factors
        if surcharge > 1.0:
            rare = assessment.rarest < self.suspicion.terms.rare_below
            factors = np.where(rare, surcharge * factors, factors)
        rows = len(factors)
        unit = self.calibration.unit_seconds
        rows_seconds = unit * float(factors.sum())
        entry_seconds = unit * self.calibration.entry.units(account, rows)
        return Work(rows_seconds + entry_seconds, rows, rows_seconds, entry_seconds, surcharge)
