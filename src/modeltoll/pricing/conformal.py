"""The default tariff: a row is priced by how rare its leak is among honest rows, whoever sends it.

The price factor of a row with conformal p-value p (Vovk et al. 2005) is (1 - g) p^(-g), a p-to-e calibrator (Vovk and
Wang 2021): its mean over honest rows is at most 1, for every leak measure and every data distribution. A weighted
mean of such factors over several measures keeps that mean, however dependent the measures are.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from modeltoll.errors import CalibrationError
from modeltoll.pricing.suspicion import Suspicion
from modeltoll.pricing.tariff import check_leak_values
from modeltoll.records import Assessment, Work

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modeltoll.pricing.calibration import Calibration
    from modeltoll.records import Account, Floats, Integers, Leaks

__all__ = ["ConformalTariff", "price_factors"]

_DROPPED_BITS = 28  # of a double's 52: what is left tells values apart that differ by 6e-8 of their size
_SMALL_BATCH_ROWS = 8
_HALF = np.int64(1 << (_DROPPED_BITS - 1))


def _rounded_leaks(values: Floats) -> Integers:
    """Leaks >= 0 as integers in the same order, rounded to 24 bits.

    Two readings of one leak that differ in their last bits, as by another batch size, must remain a tie: where many
    honest rows tie, the next double above them would look rare.
    """
    bits: Integers = np.ascontiguousarray(values + 0.0).view(np.int64)  # + 0.0 makes 0.0 of -0.0
    bits += _HALF
    bits >>= _DROPPED_BITS
    return bits


@dataclass(frozen=True, slots=True)
class _PlainLists:
    """The honest grains, ascending, and the weighted factor for each number of them at or above a row's, by measure."""

    honest: list[list[int]]
    shares: list[list[float]]

    @classmethod
    def of(cls, honest: Sequence[Integers], shares: Sequence[Floats]) -> _PlainLists:
        return cls([scores.tolist() for scores in honest], [share.tolist() for share in shares])


class ConformalTariff:
    """The tariff of one calibration. Pure; one row of two measures is assessed in some ten microseconds."""

    def __init__(self, calibration: Calibration) -> None:
        self.calibration = calibration
        self.identity = calibration.identity
        self.measures = calibration.measures
        self.suspicion = Suspicion(calibration.honest, calibration.suspicion)
        self.shape = (len(calibration.measures), self.suspicion.bins)
        self._honest = [_rounded_leaks(scores) for scores in calibration.scores]
        # By the number of honest scores at or above a row's:
        self._p_values = np.arange(1, calibration.honest + 2) / (calibration.honest + 1)
        factors = (1.0 - calibration.g) * self._p_values**-calibration.g
        self._shares = [weight * factors for weight in calibration.weights]
        self._few = _PlainLists.of(self._honest, self._shares)

    def assess(self, leaks: Leaks, rng: np.random.Generator) -> Assessment:
        """Price each row: p = (1 + #{s_i >= s}) / (n + 1) per measure, factor = weighted mean of (1 - g) p^(-g).

        The bins are those of the smoothed p = (#{s_i > s} + U (1 + #{s_i = s})) / (n + 1), U uniform from ``rng``,
        which is exactly uniform for honest rows even where scores are tied.

        Raises:
            CalibrationError: the leaks are of other measures than this tariff prices.
            AnswerError: a leak is negative or not finite.
        """
        grains = _rounded_leaks(check_leak_values(leaks, self.measures))
        if 0 < len(grains) <= _SMALL_BATCH_ROWS:
            return self._assess_few(grains.tolist(), rng.random(grains.shape).tolist())
        at_least, above = self._count(grains, "left"), self._count(grains, "right")
        factors = np.zeros(len(grains))
        for share, counts in zip(self._shares, at_least.T, strict=True):
            factors += share[counts]
        smoothed = (above + rng.random(above.shape) * (1 + at_least - above)) / (self.calibration.honest + 1)
        return Assessment(factors, self._p_values[at_least.min(axis=1)], self.suspicion.place(smoothed))

    def _assess_few(self, grains: list[list[int]], chances: list[list[float]]) -> Assessment:
        """``assess`` without arrays, which for so few rows is three times as fast; bit for bit the same."""
        honest, few = self.calibration.honest, self._few
        factors, rarest, bins = [], [], []
        for row, drawn in zip(grains, chances, strict=True):
            factor, least, places = 0.0, honest, []
            for scores, share, grain, chance in zip(few.honest, few.shares, row, drawn, strict=True):
                at_least, above = honest - bisect_left(scores, grain), honest - bisect_right(scores, grain)
                factor += share[at_least]
                least = min(least, at_least)
                places.append((above + chance * (1 + at_least - above)) / (honest + 1))
            factors.append(factor)
            rarest.append((least + 1) / (honest + 1))
            bins.append(self.suspicion.places(places))
        return Assessment(np.array(factors), np.array(rarest), np.array(bins))

    def mean_factors(self, g: float) -> Floats:
        """What rows whose smoothed p falls into a bin pay on average for a measure at that g, in units, (measures, bins).

        Within a bin the smoothed p counts as uniform. The price takes the larger p of ``assess``: never below
        1 / (n + 1), and for tied scores that of them all.
        """
        steps = self.calibration.honest + 1
        edges = np.array(self.suspicion.edges) * steps
        means = []
        for scores in self._honest:
            descending = scores[::-1]
            at_least = self.calibration.honest - scores.searchsorted(descending, "left")
            ends = np.arange(1, steps + 1)  # of the steps of the smoothed p, the rarest first
            tied = at_least - (self.calibration.honest - scores.searchsorted(descending, "right")) > 1
            ends[:-1][tied] = at_least[tied] + 1
            earned = np.concatenate([[0.0], np.cumsum((1.0 - g) * (ends / steps) ** -g)])
            means.append(np.diff(np.interp(edges, np.arange(steps + 1), earned)) / np.diff(edges))
        return np.array(means)

    def at_least(self, leaks: Leaks) -> Integers:
        """How many calibration rows leak as much as each row or more, (rows, measures). Raises as ``assess`` does."""
        return self._count(_rounded_leaks(check_leak_values(leaks, self.measures)), "left")

    def _count(self, grains: Integers, side: Literal["left", "right"]) -> Integers:
        counts = np.empty_like(grains)
        for column, scores in enumerate(self._honest):
            counts[:, column] = self.calibration.honest - scores.searchsorted(grains[:, column], side)
        return counts

    def multipliers(
        self, assessment: Assessment, surcharge: float | Floats, group_surcharge: float | Floats = 1.0
    ) -> Floats:
        """What suspicion multiplies each row by, (rows,): the caller's part where the row is rare, or his groups' part
        where it is rare enough for theirs, whichever is larger.

        Both are one number, or one for each row where the rows are of many callers.
        """
        terms, rarest = self.suspicion.terms, assessment.rarest
        own = np.where(rarest < terms.rare_below, surcharge, 1.0)
        return np.maximum(own, np.where(rarest < terms.group_rare_below, group_surcharge, 1.0))

    def work(self, assessment: Assessment, account: Account) -> Work:
        """unit * the rows' factors, times what suspicion of the caller or his groups asks for, + the entry toll.

        The rows are multiplied by the caller's markup; where he is not himself under suspicion, he is let off his
        discount on them.

        Raises:
            CalibrationError: counts of the account, or of its groups', are not of this tariff's shape.
        """
        suspicion = self.suspicion
        surcharge = float(suspicion.surcharge_at(self._log_evidence(account)))
        group_surcharge = 1.0
        if account.groups:
            most = max([self._log_evidence(shared) for shared in account.groups])
            group_surcharge = float(suspicion.surcharge_at(most, group=True))
        units = assessment.factors
        if max(surcharge, group_surcharge) > 1.0:
            units = units * self.multipliers(assessment, surcharge, group_surcharge)
        rows, unit = len(units), self.calibration.unit_seconds
        rows_seconds = unit * float(units.sum()) * account.caller.markup
        if surcharge <= 1.0:
            rows_seconds *= 1.0 - account.caller.discount
        new_account_seconds = unit * self.calibration.new_account_toll.units(account, rows)
        return Work(
            rows_seconds + new_account_seconds, rows, rows_seconds, new_account_seconds, surcharge, group_surcharge
        )

    def _log_evidence(self, account: Account) -> float:
        measures, bins = self.shape
        if len(account.counts) != measures or any(len(row) != bins for row in account.counts):
            raise CalibrationError(
                "the account was kept under another tariff", private=f"its counts are not of shape {self.shape}"
            )
        return self.suspicion.log_evidence_of(account.counts)


def price_factors(calibration: Calibration, leaks: Leaks) -> Floats:
    """What each row costs in units, (rows,), before any surcharge. Raises as ``ConformalTariff.assess`` does."""
    return ConformalTariff(calibration).assess(leaks, np.random.default_rng(0)).factors
