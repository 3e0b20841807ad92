"""The default tariff: a row is priced by the rarity of its leak among honest rows, independent of the caller.

The price factor of a row with conformal p-value p (Vovk et al. 2005) is the mean of (1 - g) p^(-g), a p-to-e calibrator
(Vovk and Wang 2021), over the bin of p (``price_bins``): its mean over honest rows is at most 1, for every leak measure and
every data distribution. A weighted mean of such factors over several measures keeps that mean, however dependent the
measures are.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from modeltoll.errors import CalibrationError
from modeltoll.pricing.price_bins import PriceBins
from modeltoll.pricing.suspicion import GROUP_SETTLED_ROWS, Suspicion
from modeltoll.pricing.tariff import check_leak_values
from modeltoll.records import Assessment, Work

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modeltoll.pricing.calibration import Calibration
    from modeltoll.records import Account, Caller, Floats, Integers, Leaks

__all__ = ["ConformalTariff", "price_factors"]

_DROPPED_BITS = 28  # of a double's 52; values that differ by a relative 6e-8 remain distinct
_SMALL_BATCH_ROWS = 8
_HALF = np.int64(1 << (_DROPPED_BITS - 1))


def _rounded_leaks(values: Floats) -> Integers:
    """Leaks >= 0 as integers in the same order, rounded to 24 bits.

    Two measurements of one leak may differ in the last bits, for example with the batch size. They must remain a tie:
    where many honest rows tie, the next larger double would count as rare.
    """
    bits: Integers = np.ascontiguousarray(values + 0.0).view(np.int64)  # + 0.0 makes 0.0 of -0.0
    bits += _HALF
    bits >>= _DROPPED_BITS
    return bits


@dataclass(frozen=True, slots=True)
class _PlainLists:
    """Lists by measure: the rounded honest scores, ascending, and the weighted factor by number of scores >= a leak."""

    scores: list[list[int]]
    factors: list[list[float]]

    @classmethod
    def of(cls, scores: Sequence[Integers], factors: Sequence[Floats]) -> _PlainLists:
        return cls([column.tolist() for column in scores], [column.tolist() for column in factors])


class ConformalTariff:
    """The tariff of one calibration. Pure; assessing one row of two measures takes about ten microseconds.

    ``finest_g``: the largest g at which this calibration's rows are priced, for which p is cut into bins; by default the
    calibration's. Prices at several g show no more of p than those bins.
    """

    def __init__(self, calibration: Calibration, finest_g: float | None = None) -> None:
        self.calibration = calibration
        self.unit_seconds = calibration.unit_seconds
        self.identity = calibration.identity
        self.measures = calibration.measures
        self.suspicion = Suspicion(calibration.honest_rows, calibration.suspicion)
        self.shape = (len(calibration.measures), self.suspicion.bin_count)
        self._scores = [_rounded_leaks(scores) for scores in calibration.scores]
        # Indexed by the number of honest scores at or above a leak:
        self._p_values = np.arange(1, calibration.honest_rows + 2) / (calibration.honest_rows + 1)
        self._finest_g = max(calibration.g, finest_g or 0.0)
        self.price_bins = PriceBins.cut(calibration.honest_rows, self._finest_g)
        factors = self.price_bins.factors(calibration.g)
        self._factors = [weight * factors for weight in calibration.weights]
        self._lists = _PlainLists.of(self._scores, self._factors)

    def assess(self, leaks: Leaks, rng: np.random.Generator) -> Assessment:
        """Price each row: p = (1 + #{s_i >= s}) / (n + 1) per measure, factor = weighted mean of those of the bins of p.

        The bins are those of the smoothed p = (#{s_i > s} + U (1 + #{s_i = s})) / (n + 1), U uniform from ``rng``,
        which is exactly uniform for honest rows even with tied scores.

        Raises:
            CalibrationError: the leaks are of other measures than this tariff prices.
            AnswerError: a leak is negative or not finite.
        """
        rounded = _rounded_leaks(check_leak_values(leaks, self.measures))
        if 0 < len(rounded) <= _SMALL_BATCH_ROWS:
            return self._assess_small_batch(rounded.tolist(), rng.random(rounded.shape).tolist())
        at_least, above = self._count(rounded, "left"), self._count(rounded, "right")
        factors = np.zeros(len(rounded))
        for by_count, counts in zip(self._factors, at_least.T, strict=True):
            factors += by_count[counts]
        smoothed = (above + rng.random(above.shape) * (1 + at_least - above)) / (self.calibration.honest_rows + 1)
        return Assessment(factors, self._p_values[at_least.min(axis=1)], self.suspicion.bins_of(smoothed))

    def _assess_small_batch(self, rounded: list[list[int]], uniforms: list[list[float]]) -> Assessment:
        """``assess`` without arrays: for few rows three times as fast, with bit for bit the same result."""
        count, lists = self.calibration.honest_rows, self._lists
        factors, rarest, bins = [], [], []
        for row, uniform_row in zip(rounded, uniforms, strict=True):
            factor, least, smoothed = 0.0, count, []
            for scores, by_count, leak, uniform in zip(lists.scores, lists.factors, row, uniform_row, strict=True):
                at_least, above = count - bisect_left(scores, leak), count - bisect_right(scores, leak)
                factor += by_count[at_least]
                least = min(least, at_least)
                smoothed.append((above + uniform * (1 + at_least - above)) / (count + 1))
            factors.append(factor)
            rarest.append((least + 1) / (count + 1))
            bins.append(self.suspicion.bins_of_list(smoothed))
        return Assessment(np.array(factors), np.array(rarest), np.array(bins))

    def mean_factors(self, g: float) -> Floats:
        """The mean factor of the rows in each bin, by measure, at that g: (measures, bins), in units.

        The bins are those of ``Assessment``, in which the smoothed p is taken as uniform. The price is that of the
        unsmoothed p of ``assess``: never below 1 / (n + 1), and the same for all tied scores.
        """
        bins = self.price_bins if g <= self._finest_g else PriceBins.cut(self.calibration.honest_rows, g)
        factors = bins.factors(g)
        steps = self.calibration.honest_rows + 1
        edges = np.array(self.suspicion.edges) * steps
        means = []
        for scores in self._scores:
            descending = scores[::-1]
            at_least = self.calibration.honest_rows - scores.searchsorted(descending, "left")
            ends = np.arange(1, steps + 1)  # upper ends of the steps of the smoothed p, ascending
            tied = at_least - (self.calibration.honest_rows - scores.searchsorted(descending, "right")) > 1
            ends[:-1][tied] = at_least[tied] + 1
            cumulative = np.concatenate([[0.0], np.cumsum(factors[ends - 1])])
            means.append(np.diff(np.interp(edges, np.arange(steps + 1), cumulative)) / np.diff(edges))
        return np.array(means)

    def factor_at(self, p_value: float) -> float:
        """The price factor of a row with this p-value, 0 to 1, under every measure.

        Of p-values that cannot occur, that of the next larger one that can.
        """
        at_least = min(int(self._p_values.searchsorted(p_value)), self.calibration.honest_rows)
        return float(sum(factors[at_least] for factors in self._factors))

    def new_account_seconds(self, caller: Caller) -> float:
        """The whole new-account toll of this caller in reference seconds."""
        return self.unit_seconds * self.calibration.new_account_toll.total_units(caller)

    def count_at_least(self, leaks: Leaks) -> Integers:
        """Number of calibration rows with a leak >= that of each row, (rows, measures). Raises as ``assess`` does."""
        return self._count(_rounded_leaks(check_leak_values(leaks, self.measures)), "left")

    def _count(self, rounded: Integers, side: Literal["left", "right"]) -> Integers:
        counts = np.empty_like(rounded)
        for column, scores in enumerate(self._scores):
            counts[:, column] = self.calibration.honest_rows - scores.searchsorted(rounded[:, column], side)
        return counts

    def multipliers(
        self, assessment: Assessment, surcharge: float | Floats, group_surcharge: float | Floats = 1.0
    ) -> Floats:
        """The multiplier of suspicion on each row, (rows,): the larger one of the two surcharges that apply to the row.

        ``surcharge`` applies to rows with p below ``rare_below``, ``group_surcharge`` to rows with p below
        ``group_rare_below``. Each is one number, or one per row where the rows are of many callers.
        """
        terms, rarest = self.suspicion.terms, assessment.rarest
        own = np.where(rarest < terms.rare_below, surcharge, 1.0)
        return np.maximum(own, np.where(rarest < terms.group_rare_below, group_surcharge, 1.0))

    def work(self, assessment: Assessment, account: Account) -> Work:
        """unit * sum of factors * multipliers * markup * (1 - discount).

        The multipliers are those of suspicion of the caller, or of its groups while it has fewer than
        ``GROUP_SETTLED_ROWS`` settled rows. The discount does not apply to a caller who is under suspicion.

        Raises:
            CalibrationError: the counts of the account or of its groups are not of this tariff's shape.
        """
        surcharge = float(self.suspicion.surcharge_at(self._log_evidence(account)))
        group_surcharge = self._group_surcharge(account)
        units = assessment.factors
        if max(surcharge, group_surcharge) > 1.0:
            units = units * self.multipliers(assessment, surcharge, group_surcharge)
        seconds = self.unit_seconds * float(units.sum()) * account.caller.markup
        if surcharge <= 1.0:
            seconds *= 1.0 - account.caller.discount
        return Work(seconds, len(units), seconds, surcharge=surcharge, group_surcharge=group_surcharge)

    def _group_surcharge(self, account: Account) -> float:
        """The largest surcharge of the account's groups, 1 where none applies."""
        log_evidence = max(map(self._log_evidence, account.groups), default=0.0)
        if account.settled_rows >= GROUP_SETTLED_ROWS:
            return 1.0
        return float(self.suspicion.surcharge_at(log_evidence, group=True))

    def _log_evidence(self, account: Account) -> float:
        measures, bins = self.shape
        if len(account.counts) != measures or any(len(row) != bins for row in account.counts):
            raise CalibrationError(
                "the account belongs to another tariff", private=f"its counts are not of shape {self.shape}"
            )
        return self.suspicion.log_evidence_of(account.counts)


def price_factors(calibration: Calibration, leaks: Leaks) -> Floats:
    """The price of each row in units, (rows,), without surcharges. Raises as ``ConformalTariff.assess`` does."""
    return ConformalTariff(calibration).assess(leaks, np.random.default_rng(0)).factors
