"""Choose g and the weights of the measures, on honest rows that are not used for calibration.

Because the choice is independent of the calibration rows, the bound holds as for given terms: for every g and all
weights the mean price of an honest row of any kind is at most one unit. The price of cells (``numeraire``), which depends on
neither g nor weights, is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import bdtr

from modeltoll.errors import CalibrationError
from modeltoll.pricing.price_bins import PriceBins

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from modeltoll.records import Floats, Leaks

__all__ = ["PriceTargets", "TermsChoice", "select_terms"]

_EXPONENTS = tuple(step / 50 for step in range(1, 50))  # candidate values of g
_STEPS = {1: 1, 2: 20, 3: 10, 4: 6}  # by number of measures: the grid of weights has steps of one over this
_SHARE, _CONFIDENCE = 0.99, 0.9  # share of honest rows within the bound on waits, and the confidence of that


@dataclass(frozen=True, slots=True, eq=False)
class PriceTargets:
    """The targets of the choice of g and weights.

    ``p99_wait``: bound on the 99th percentile of honest waits, in reference seconds; None for no bound. ``thieves``:
    leaks of thieves' rows, one sample per thief, whose price is maximised.
    """

    p99_wait: float | None = None
    thieves: tuple[Leaks, ...] = ()


@dataclass(frozen=True, slots=True)
class TermsChoice:
    """The chosen terms, and their effect on the rows that they were chosen on.

    ``p99_units``: a factor that 99 % of honest rows do not exceed, with 90 % confidence, the maximum over the kinds.
    ``thieves_units``: mean factor of the cheaper half of a thief's rows, the minimum over the thieves; None without thieves.
    """

    g: float
    weights: tuple[float, ...]
    p99_units: float
    thieves_units: float | None


def _weights(measures: int, given: tuple[float, ...] | None, *, free: bool) -> Iterator[tuple[float, ...]]:
    """The given weights (or equal ones); if they are free, also those on a grid."""
    yield (1.0 / measures,) * measures if given is None else given
    steps = _STEPS.get(measures, 4)
    if free and given is None and measures > 1:
        for shares in product(range(steps + 1), repeat=measures):
            if sum(shares) == steps:
                yield tuple(share / steps for share in shares)


def _largest_p(samples: Sequence[Floats], rows: Floats, own: int | None = None) -> Floats:
    """The largest p of each of ``rows`` (rows, measures) among the samples, each (n, measures), in the same shape.

    ``own``: the place of the sample that the rows are, in which each is compared with the others.
    """
    largest = np.zeros(rows.shape)
    for place, sample in enumerate(samples):
        ascending = np.sort(sample, axis=0)
        below = [ascending[:, column].searchsorted(rows[:, column], "left") for column in range(rows.shape[1])]
        at_least = len(sample) - np.stack(below, axis=1)
        p_values = at_least / len(sample) if place == own else (1 + at_least) / (len(sample) + 1)
        largest = np.maximum(largest, p_values)
    return largest


def _cheaper_half(factors: Floats) -> Floats:
    """Mean of the lower half of each line of (choices, rows): the price for a thief who abandons expensive rows."""
    half: Floats = np.sort(factors, axis=1)[:, : max(1, factors.shape[1] // 2)]
    mean: Floats = half.mean(axis=1)
    return mean


def _quantile_index(rows: int) -> int:
    """The index, among ``rows`` ascending honest prices, of a 90 % upper confidence bound of the 99th percentile."""
    indices = np.arange(rows)
    return int(np.searchsorted(bdtr(indices, rows, _SHARE), _CONFIDENCE).clip(0, rows - 1))


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """The largest p of rows to choose on, each (rows, measures): of each kind, and of each thief.

    ``largest``: the number of rows of the largest kind.
    """

    kinds: tuple[Floats, ...]
    thieves: tuple[Floats, ...]
    largest: int

    @classmethod
    def of(cls, kinds: Sequence[Floats], thieves: Sequence[Floats]) -> _Rows:
        return cls(
            tuple(_largest_p(kinds, rows, own) for own, rows in enumerate(kinds)),
            tuple(_largest_p(kinds, rows) for rows in thieves),
            max(map(len, kinds)),
        )

    def candidates(self, g: float, grid: Floats) -> Iterator[TermsChoice]:
        """The effect of each line of weights in ``grid`` (choices, measures) at one g."""
        bins, p99 = PriceBins.cut(self.largest, g), np.zeros(len(grid))
        for p_values in self.kinds:
            index = _quantile_index(len(p_values))
            factors = grid @ bins.factors(p_values, g).T
            p99 = np.maximum(p99, np.partition(factors, index, axis=1)[:, index])
        prices = [_cheaper_half(grid @ bins.factors(p_values, g).T) for p_values in self.thieves]
        least = np.min(prices, axis=0) if prices else None
        for line, weights in enumerate(grid.tolist()):
            yield TermsChoice(g, tuple(weights), float(p99[line]), None if least is None else float(least[line]))


def select_terms(
    honest: Leaks,
    unit_seconds: float,
    targets: PriceTargets,
    g: float,
    weights: tuple[float, ...] | None,
    kinds: Sequence[Leaks] = (),
) -> TermsChoice:
    """Choose g, and the weights if None, for the targets.

    With thieves: maximise the mean price of the cheaper half of a thief's rows (a thief can abandon the others), for
    the thief who pays least. Without: equal weights or those given, and the g closest to the given one.

    Args:
        honest: leaks of honest rows that are not used for calibration.
        unit_seconds: reference seconds per unit.
        targets: what to choose for; the bound on waits is for all traffic and for each kind.
        g: the preferred exponent.
        weights: one per measure, sum 1, or None.
        kinds: leaks of rows of each declared kind that is priced, not used for calibration either.

    Raises:
        CalibrationError: the measures differ, a kind or a thief has no rows, or no g keeps the bound on waits; the message
            then says which bound is possible.
    """
    for whose, samples in (("kinds'", kinds), ("thieves'", targets.thieves)):
        if any(sample.measures != honest.measures or not len(sample.values) for sample in samples):
            raise CalibrationError(f"{whose} rows must have leaks of {', '.join(honest.measures)}")
    rows = _Rows.of([honest.values, *(kind.values for kind in kinds)], [thief.values for thief in targets.thieves])
    grid = np.array(list(_weights(len(honest.measures), weights, free=bool(targets.thieves))))
    exponents = sorted({*_EXPONENTS, g}, key=lambda exponent: (abs(exponent - g), exponent))
    choices = [choice for exponent in exponents for choice in rows.candidates(exponent, grid)]
    # Of equal choices the first, whose g is closest to the given one.
    return max(_allowed(choices, unit_seconds, targets), key=lambda choice: choice.thieves_units or 0.0)


def _allowed(choices: list[TermsChoice], unit_seconds: float, targets: PriceTargets) -> list[TermsChoice]:
    """The choices that keep the bound on waits. Raises as ``select_terms`` does, if there are none."""
    if targets.p99_wait is None:
        return choices
    bound = targets.p99_wait / unit_seconds
    allowed = [choice for choice in choices if choice.p99_units <= bound]
    if not allowed:
        least = min(choice.p99_units for choice in choices)
        raise CalibrationError(
            f"no g lets 99 % of honest rows wait at most {targets.p99_wait:g} s: {least * unit_seconds:.3g} s is the "
            f"least; allow that, or {bound / least:.2g} times the overhead"
        )
    return allowed
