"""Stated distributions of p-values, and rows that have them."""

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
    """A mixture of uniform distributions: ``parts`` are (weight above 0, low, high) with 0 <= low <= high <= 1."""

    parts: tuple[tuple[float, float, float], ...]

    def draw(self, rows: int, rng: np.random.Generator) -> Floats:
        """p-values, (rows,)."""
        weights, lows, highs = (np.array(column) for column in zip(*self.parts, strict=True))
        part = rng.choice(len(weights), size=rows, p=weights / weights.sum())
        p_values: Floats = lows[part] + (highs - lows)[part] * rng.random(rows)
        return p_values


UNIFORM = PValueMixture(((1.0, 0.0, 1.0),))  # an honest caller's


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def parse_mixture(text: str) -> PValueMixture:
    """Read ``0.5`` (a point), ``0.1..1`` (uniform), or a mixture such as ``0.3*0..0.1 + 0.7*0.5..1``.

    Raises:
        SettingsError: it is none of these, or a number is out of range.
    """
    parts = []
    for term in text.split("+"):
        weight, star, span = term.rpartition("*")
        low, dots, high = span.partition("..")
        part = (_number(weight) if star else 1.0, _number(low), _number(high if dots else low))
        if not (0.0 < part[0] < math.inf and 0.0 <= part[1] <= part[2] <= 1.0):
            raise SettingsError(
                [
                    f"{text!r} is no distribution of p: write 0.5, or 0.1..1, or a mixture such as 0.3*0..0.1 + 0.7*0.5..1"
                ]
            )
        parts.append(part)
    return PValueMixture(tuple(parts))


def leaks_at(scores: Floats, p_values: Floats) -> Floats:
    """Leaks (rows, measures) whose conformal p-values are ``p_values`` (rows,), the same in every measure.

    ``scores`` (measures, n) are honest leaks, ascending. A leak lies midway between the two honest ones that the
    p-value lies between, so that its p-value is exact to 1 / (n + 1) where scores are not tied.
    """
    honest = scores.shape[1]
    above = np.minimum((p_values * (honest + 1)).astype(np.int64), honest)
    padded = np.concatenate([0.5 * scores[:, :1], scores, 1.01 * scores[:, -1:] + 1e-9], axis=1)
    leaks: Floats = 0.5 * (padded[:, honest - above] + padded[:, honest + 1 - above]).T
    return leaks
