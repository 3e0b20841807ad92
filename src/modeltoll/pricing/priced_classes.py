"""Choose the predicted classes whose rows are priced among the rows of their own class too, because they would cost much."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from modeltoll.pricing.calibration import PricedClass
from modeltoll.pricing.conformal_tariff import price_factors
from modeltoll.pricing.kind_fit import ascending

if TYPE_CHECKING:
    from modeltoll.pricing.calibration import Calibration
    from modeltoll.records import Floats, Integers, Leaks

__all__ = ["LARGEST_CLASS_UNITS", "PRICED_CLASS_ROWS", "priced_classes"]

LARGEST_CLASS_UNITS = 2.0  # mean price of a class's rows, above which it is priced among its own rows
PRICED_CLASS_ROWS = 200  # n rows cap the price at (1 - g) (n + 1)^g, so smaller classes are pooled


def priced_classes(calibration: Calibration, fitted: Leaks, held_back: Leaks) -> tuple[PricedClass, ...]:
    """The classes that cost more than ``LARGEST_CLASS_UNITS`` units on average under a calibration without priced classes.

    A class of ``PRICED_CLASS_ROWS`` rows or more is judged by its rows held back and priced by itself. Smaller ones are
    judged by all their rows; those that cost too much are pooled, and with them the dearest others until the pool has so
    many rows. Where all small classes together have fewer, none is priced.

    ``fitted``: the rows of the calibration's scores. ``held_back``: others.
    """
    if fitted.classes is None or held_back.classes is None:
        return ()
    labels, sizes = np.unique(fitted.classes[fitted.classes >= 0], return_counts=True)
    factors = price_factors(calibration, held_back)
    large = labels[sizes >= PRICED_CLASS_ROWS]
    found = [
        _priced(fitted, (label,))
        for label in large.tolist()
        if _mean(factors[held_back.classes == label]) > LARGEST_CLASS_UNITS
    ]
    pool = _pool(calibration, fitted, held_back, factors, labels[sizes < PRICED_CLASS_ROWS])
    return (*found, _priced(fitted, pool)) if pool else tuple(found)


def _pool(
    calibration: Calibration, fitted: Leaks, held_back: Leaks, factors: Floats, small: Integers
) -> tuple[int, ...]:
    """The small classes that are priced together, ascending; none where they are cheap, or too few rows."""
    assert fitted.classes is not None
    assert held_back.classes is not None
    own = price_factors(calibration, fitted)
    costs = {
        label: _mean(np.concatenate([own[fitted.classes == label], factors[held_back.classes == label]]))
        for label in small.tolist()
    }
    pool: list[int] = []
    rows = 0
    for label in sorted(costs, key=costs.__getitem__, reverse=True):
        if costs[label] <= LARGEST_CLASS_UNITS and (rows >= PRICED_CLASS_ROWS or not pool):
            break
        pool.append(label)
        rows += int((fitted.classes == label).sum())
    return tuple(sorted(pool)) if rows >= PRICED_CLASS_ROWS else ()


def _priced(fitted: Leaks, labels: tuple[int, ...]) -> PricedClass:
    assert fitted.classes is not None
    return PricedClass(labels, ascending(fitted.values[np.isin(fitted.classes, labels)]))


def _mean(factors: Floats) -> float:
    return float(factors.mean()) if len(factors) else 0.0
