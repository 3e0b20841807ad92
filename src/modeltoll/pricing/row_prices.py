"""The price of a row by the rarity of its leak among honest rows of every kind.

The factor by one measure is b(p), the mean of (1 - g) p^(-g), a p-to-e calibrator (Vovk and Wang 2021), over the bin of p
(``price_bins``). p is the largest of the row's conformal p-values (Vovk et al. 2005) among all traffic, among each declared
kind, and among the rows of its predicted class where that is priced. It is super-uniform under all traffic and under each
declared kind, so the mean factor is at most 1 for each of them and for every mixture of them, for every leak measure and
every distribution of data. A weighted mean of such factors over several measures keeps that mean, however dependent the
measures are.
"""

from __future__ import annotations

import copy
from bisect import bisect_left
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.pricing.kinds import ALL_TRAFFIC, DECLARED
from modeltoll.pricing.leak_ranks import MergedRanks, SampleRanks
from modeltoll.pricing.price_bins import PriceBins

if TYPE_CHECKING:
    from modeltoll.pricing.calibration import Calibration
    from modeltoll.records import Floats, Integers

__all__ = ["RowPrices"]


class _PlainLists:
    """Steps of p by one measure as lists: rounded leaks, and p, weighted factor and rank by the number of them below a leak."""

    __slots__ = ("at_least", "factors", "p_values", "values")

    def __init__(self, values: Integers, p_values: Floats, factors: Floats, at_least: Integers) -> None:
        self.values: list[int] = values.tolist()
        self.p_values: list[float] = p_values.tolist()
        self.factors: list[float] = factors.tolist()
        self.at_least: list[int] = at_least.tolist()


class RowPrices:
    """The row prices of one calibration. ``price_bins``: cut at the largest g in use, for the rows of all traffic; no p that
    rows are priced by is below those among all traffic.

    ``all_traffic``, ``kinds``: the ranks among all traffic, and among it and the declared kinds, named ``kind_names``.
    """

    def __init__(self, calibration: Calibration, finest_g: float | None = None) -> None:
        declared = [kind for kind in calibration.kinds if kind.role == DECLARED and kind.scores is not None]
        samples = [calibration.scores, *(kind.scores for kind in declared if kind.scores is not None)]
        self.kind_names = (ALL_TRAFFIC, *(kind.name for kind in declared))
        self.kinds = tuple(SampleRanks(scores) for scores in samples)
        self.all_traffic = self.kinds[0]
        self._classes = [SampleRanks(priced.scores) for priced in calibration.priced_classes]
        self._class_of = {c: place for place, priced in enumerate(calibration.priced_classes) for c in priced.classes}
        self._merged = [
            MergedRanks([ranks.measures[column] for ranks in self.kinds]) for column in range(len(calibration.measures))
        ]
        self._weights = calibration.weights
        self.price_bins = PriceBins.cut(calibration.honest_rows, max(calibration.g, finest_g or 0.0))
        self._tabulate(calibration.g)

    def _tabulate(self, g: float) -> None:
        """The tables that depend on g."""
        self._prices = self.price_bins.prices(g)
        self._lists = [
            _PlainLists(ranks.values, ranks.p_values, weight * self._factors_of(ranks.p_values), ranks.at_least)
            for weight, ranks in zip(self._weights, self._merged, strict=True)
        ]
        self._class_lists = []
        for sample in self._classes:
            at_least = np.arange(sample.rows, -1, -1)
            p_values = (1 + at_least) / (sample.rows + 1)
            factors = self._factors_of(p_values)
            pairs = zip(self._weights, sample.measures, strict=True)
            self._class_lists.append([_PlainLists(each.rounded, p_values, w * factors, at_least) for w, each in pairs])

    def _factors_of(self, p_values: Floats) -> Floats:
        factors: Floats = self._prices[self.price_bins.of(p_values)]
        return factors

    def at(self, g: float) -> RowPrices:
        """The same at another g, at most the largest that the bins were cut for; what does not depend on g is shared."""
        other = copy.copy(self)
        other._tabulate(g)  # noqa: SLF001  of the same class
        return other

    def p_values(self, rounded: Integers, classes: Integers | None = None) -> Floats:
        """The largest p of each row, (rows, measures), among the kinds and the rows of its class where that is priced.

        ``rounded`` (rows, measures): as ``rounded_leaks`` gives them. ``classes`` (rows,): the predicted classes.
        """
        columns = zip(self._merged, rounded.T, strict=True)
        p_values = np.stack([ranks.p_values[ranks.places(column)] for ranks, column in columns], axis=1)
        if classes is not None and self._class_of:
            places = np.array([self._class_of.get(number, -1) for number in classes.tolist()], np.int64)
            for place, ranks in enumerate(self._classes):
                rows = places == place
                p_values[rows] = np.maximum(p_values[rows], ranks.p_values(rounded[rows]))
        return p_values

    def factors(self, p_values: Floats) -> Floats:
        """The weighted mean of the factors b(p), (rows,), from p-values (rows, measures)."""
        factors = np.zeros(len(p_values))
        for weight, column in zip(self._weights, p_values.T, strict=True):
            factors += weight * self._factors_of(column)
        return factors

    def of_row(self, row: list[int], predicted: int | None = None) -> tuple[float, float, list[int]]:
        """Of one row of rounded leaks: ``factors``, the smallest of ``p_values``, and the place by each measure.

        The place is the number of distinct rounded leaks of all kinds that are smaller.
        """
        priced_class = self._class_of.get(predicted) if predicted is not None else None
        factor, least, places = 0.0, 1.0, []
        for column, (lists, leak) in enumerate(zip(self._lists, row, strict=True)):
            place = bisect_left(lists.values, leak)
            weighted, p_value = lists.factors[place], lists.p_values[place]
            if priced_class is not None:
                own = self._class_lists[priced_class][column]
                at = bisect_left(own.values, leak)
                weighted, p_value = min(weighted, own.factors[at]), max(p_value, own.p_values[at])
            factor += weighted
            least = min(least, p_value)
            places.append(place)
        return factor, least, places

    def among_all_traffic(self, column: int, place: int, leak: int) -> tuple[int, int]:
        """The numbers of honest rows above and at or above a rounded leak by one measure, at its place."""
        lists = self._lists[column]
        at_least = lists.at_least[place]
        tied = place < len(lists.values) and lists.values[place] == leak
        return (lists.at_least[place + 1] if tied else at_least), at_least
