"""Distributions of p-values, and rows with such p-values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.errors import SettingsError

if TYPE_CHECKING:
    from modeltoll.records import Floats

__all__ = ["UNIFORM", "PValueMixture", "leaks_at", "parse_mixture"]


@dataclass(frozen=True, slots=True)
class PValueMixture:
    """A mixture of uniform distributions. ``parts``: (weight > 0, low, high) with 0 <= low <= high <= 1."""

    parts: tuple[tuple[float, float, float], ...]

    def draw(self, rows: int, rng: np.random.Generator) -> Floats:
        """Random p-values, (rows,)."""
        weights, lows, highs = (np.array(column) for column in zip(*self.parts, strict=True))
        part = rng.choice(len(weights), size=rows, p=weights / weights.sum())
        p_values: Floats = lows[part] + (highs - lows)[part] * rng.random(rows)
        return p_values


UNIFORM = PValueMixture(((1.0, 0.0, 1.0),))  # the distribution for an honest caller


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def parse_mixture(text: str) -> PValueMixture:
    """Parse ``0.5`` (a point), ``0.1..1`` (uniform), or a mixture such as ``0.3*0..0.1 + 0.7*0.5..1``.

    Raises:
        SettingsError: another form, or a number out of range.
    """
    parts = []
    for term in text.split("+"):
        weight, star, span = term.rpartition("*")
        low, dots, high = span.partition("..")
        part = (_number(weight) if star else 1.0, _number(low), _number(high if dots else low))
        if not (0.0 < part[0] < math.inf and 0.0 <= part[1] <= part[2] <= 1.0):
            raise SettingsError(
                [
                    f"{text!r} is not a distribution of p: write 0.5, or 0.1..1, or a mixture such as 0.3*0..0.1 + 0.7*0.5..1"
                ]
            )
        parts.append(part)
    return PValueMixture(tuple(parts))


def leaks_at(scores: Floats, p_values: Floats) -> Floats:
    """Leaks (rows, measures) whose conformal p-values are ``p_values`` (rows,) in every measure.

    ``scores`` (measures, n): honest leaks, ascending. Each leak is midway between two adjacent honest leaks, so that its
    p-value is exact to 1 / (n + 1) unless scores are tied.
    """
    honest = scores.shape[1]
    above = np.minimum((p_values * (honest + 1)).astype(np.int64), honest)
    padded = np.concatenate([0.5 * scores[:, :1], scores, 1.01 * scores[:, -1:] + 1e-9], axis=1)
    leaks: Floats = 0.5 * (padded[:, honest - above] + padded[:, honest + 1 - above]).T
    return leaks
