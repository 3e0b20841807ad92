"""Corruptions of table rows, as honest callers send them: functions of rows (n, d), a strength and a generator.

Columns of whole numbers within a span of 20 count as codes. They are never scaled, and what replaces a code is a code.
A missing value (NaN) stays missing.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from modeltoll.records import Bools, Floats

__all__ = ["is_code", "jitter", "missing", "scale"]

_CODES = 20  # span of whole numbers up to which a column counts as codes


def is_code(rows: Floats) -> Bools:
    """Which columns (d,) hold codes: whole numbers within a span of 20, or nothing but missing values."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a column of missing values only
        span = np.nanmax(rows, axis=0) - np.nanmin(rows, axis=0)
    whole = (np.isnan(rows) | (rows == np.round(rows))).all(axis=0)
    return np.asarray(whole & ~(span > _CODES))


def jitter(rows: Floats, strength: float, rng: np.random.Generator) -> Floats:
    """Gaussian noise of ``strength`` standard deviations of each column; a share ``strength`` of codes is drawn anew.

    A code is drawn from its column, so that the column keeps its distribution.
    """
    codes = is_code(rows)
    changed = rows + rng.normal(size=rows.shape) * strength * np.where(codes, 0.0, _deviations(rows))
    others = np.take_along_axis(rows, rng.integers(0, len(rows), rows.shape), axis=0)
    drawn = (rng.random(rows.shape) < strength) & ~np.isnan(rows) & ~np.isnan(others)
    return np.where(codes & drawn, others, changed)


def missing(rows: Floats, strength: float, rng: np.random.Generator) -> Floats:
    """A share ``strength`` of the values is missing: NaN where the rows hold NaN, else the column's commonest or median value.

    Rows without NaN belong to a model that has to be given a value; a caller then fills in the usual one.
    """
    fill = np.full(rows.shape[1], np.nan) if np.isnan(rows).any() else _usual(rows)
    return np.where(rng.random(rows.shape) < strength, fill, rows)


def scale(rows: Floats, strength: float, rng: np.random.Generator) -> Floats:
    """Each row's measured values times one factor, uniform in 1 - ``strength`` to 1 + ``strength``."""
    factors = rng.uniform(1.0 - strength, 1.0 + strength, (len(rows), 1))
    return np.where(is_code(rows), rows, rows * factors)


def _deviations(rows: Floats) -> Floats:
    """The standard deviation of each column (d,), without missing values; 0 for a column without values."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a column of missing values only
        return np.asarray(np.nan_to_num(np.nanstd(rows, axis=0)))


def _usual(rows: Floats) -> Floats:
    """The commonest code, or the median, of each column (d,); the rows hold no NaN."""
    usual = np.median(rows, axis=0)
    for column in np.flatnonzero(is_code(rows)):
        values, counts = np.unique(rows[:, column], return_counts=True)
        usual[column] = values[counts.argmax()]
    return np.asarray(usual)
