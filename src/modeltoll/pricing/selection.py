"""The choice of g and of the measures' weights, on honest rows that the tariff is not calibrated on.

Since the choice looks at no calibration row, the tariff's promise holds as if g and weights had been given: for every
g and all weights the mean price of an honest row is at most one unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import bdtr

from modeltoll.errors import CalibrationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modeltoll.records import Floats, Leaks

__all__ = ["PriceTargets", "TermsChoice", "select_terms"]

_EXPONENTS = tuple(step / 50 for step in range(1, 50))  # the g that are tried
_STEPS = {1: 1, 2: 20, 3: 10, 4: 6}  # by measures: weights are tried in shares of one over so many
_SHARE, _CONFIDENCE = 0.99, 0.9  # of honest rows wait no longer than was asked for; how sure to be of it


@dataclass(frozen=True, slots=True, eq=False)
class PriceTargets:
    """What g and weights are chosen for.

    ``p99_wait``: 99 of 100 honest rows wait no longer than so many reference seconds; None sets no bound.
    ``thieves``: leaks of rows that thieves ask for, one sample per thief, whose price is to be as high as it can be.
    """

    p99_wait: float | None = None
    thieves: tuple[Leaks, ...] = ()


@dataclass(frozen=True, slots=True)
class TermsChoice:
    """What was chosen, and what it does to the rows it was chosen on.

    ``p99_units`` is a factor that 99 in 100 honest rows do not exceed, with 90 % confidence; ``thieves_units`` the mean factor of the
    cheaper half of each thief's rows, for the thief who pays least; None without thieves.
    """

    g: float
    weights: tuple[float, ...]
    p99_units: float
    thieves_units: float | None


def _weights(measures: int, stated: tuple[float, ...] | None, *, free: bool) -> Iterator[tuple[float, ...]]:
    """The stated weights (or equal ones), and where they are free, those on a grid."""
    yield (1.0 / measures,) * measures if stated is None else stated
    steps = _STEPS.get(measures, 4)
    if free and stated is None and measures > 1:
        for shares in product(range(steps + 1), repeat=measures):
            if sum(shares) == steps:
                yield tuple(share / steps for share in shares)


def _at_least(honest: Floats, rows: Floats) -> Floats:
    """How many honest rows (n, measures) leak as much as each row or more, (rows, measures)."""
    ascending = np.sort(honest, axis=0)
    below = [ascending[:, place].searchsorted(rows[:, place], "left") for place in range(honest.shape[1])]
    return len(honest) - np.stack(below, axis=1).astype(np.float64)


def _cheaper_half(factors: Floats) -> Floats:
    """Mean of the lower half of each line of (choices, rows): what a thief pays who leaves the dearer rows."""
    half: Floats = np.sort(factors, axis=1)[:, : max(1, factors.shape[1] // 2)]
    mean: Floats = half.mean(axis=1)
    return mean


def _quantile_index(rows: int) -> int:
    """Which of so many ascending honest prices lies above 99 % of all honest ones, with a confidence of 90 %."""
    places = np.arange(rows)
    return int(np.searchsorted(bdtr(places, rows, _SHARE), _CONFIDENCE).clip(0, rows - 1))


def _candidates(own: Floats, others: list[Floats], g: float, grid: Floats) -> Iterator[TermsChoice]:
    """What each line of weights does at one g; p-values ``own`` (n, measures) and ``others`` of the same width."""
    place = _quantile_index(len(own))
    p99 = np.partition(grid @ ((1.0 - g) * own**-g).T, place, axis=1)[:, place]
    worth = [_cheaper_half(grid @ ((1.0 - g) * p_values**-g).T) for p_values in others]
    least = np.min(worth, axis=0) if worth else None
    for line, weights in enumerate(grid.tolist()):
        yield TermsChoice(g, tuple(weights), float(p99[line]), None if least is None else float(least[line]))


def select_terms(
    honest: Leaks, unit_seconds: float, targets: PriceTargets, g: float, weights: tuple[float, ...] | None
) -> TermsChoice:
    """Choose g, and the weights where none are stated, for the targets.

    With thieves: the g and weights under which the thief who pays least pays most, in the cheaper half of his rows,
    since he can leave the dearer ones. Without: equal weights, or those stated, and the g nearest to the stated one.

    Raises:
        CalibrationError: the measures differ, a thief has no rows, or no g keeps the wait; then it says what would.
    """
    for thief in targets.thieves:
        if thief.measures != honest.measures or not len(thief.values):
            raise CalibrationError(f"thieves' rows must have leaks of {', '.join(honest.measures)}")
    rows = honest.values
    own = _at_least(rows, rows) / len(rows)  # each against all the others
    others = [(1.0 + _at_least(rows, thief.values)) / (len(rows) + 1.0) for thief in targets.thieves]
    grid = np.array(list(_weights(len(honest.measures), weights, free=bool(others))))
    bends = sorted({*_EXPONENTS, g}, key=lambda bend: (abs(bend - g), bend))
    choices = [choice for bend in bends for choice in _candidates(own, others, bend, grid)]
    if targets.p99_wait is None:
        allowed = choices
    else:
        bound = targets.p99_wait / unit_seconds
        allowed = [choice for choice in choices if choice.p99_units <= bound]
        least = min(choice.p99_units for choice in choices)
        if not allowed:
            raise CalibrationError(
                f"no g lets 99 % of honest rows wait at most {targets.p99_wait:g} s: {least * unit_seconds:.3g} s is the "
                f"least; allow that, or {bound / least:.2g} times the overhead"
            )
    return max(
        allowed, key=lambda choice: choice.thieves_units or 0.0
    )  # of equals the first, nearest to what is stated
