"""PRADA: a caller whose distances between queries are not normally distributed is taken for a thief."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import shapiro

if TYPE_CHECKING:
    from modeltoll.records import Floats, Integers

__all__ = ["Prada"]

_MOST = 5000  # distances that scipy's Shapiro-Wilk test is accurate for
_DEVIATIONS = 3.0  # distances further out than so many are left out


class _GrowingSet:
    """The queries of one class that were far from those before them."""

    def __init__(self, dimensions: int) -> None:
        self._points = np.empty((16, dimensions))
        self._count = 0
        self._distances: list[float] = []
        self._threshold = 0.0

    def add(self, point: Floats) -> float | None:
        """The distance to the nearest of them, if there are any; the query joins them if it is far enough."""
        nearest = None
        if self._count:
            away = self._points[: self._count] - point
            nearest = float(np.sqrt(np.einsum("ij,ij->i", away, away).min()))
        if nearest is None or nearest > self._threshold:
            if self._count == len(self._points):
                self._points = np.concatenate([self._points, np.empty_like(self._points)])
            self._points[self._count] = point
            self._count += 1
            if nearest is not None:
                self._distances.append(nearest)
                self._threshold = max(self._threshold, float(np.mean(self._distances) - np.std(self._distances)))
        return nearest


@dataclass(frozen=True, slots=True)
class Prada:
    """Shapiro and Wilk's W of the distances below ``delta``: an alarm. Juuti et al. 2019, *PRADA: protecting against DNN
    model stealing attacks*, algorithm 1.

    The first test is made with ``least`` distances, and one at every ``every`` further ones. Their delta is chosen for
    each data set; here it is one for all.
    """

    delta: float = 0.95
    least: int = 100
    every: int = 50
    name: str = "PRADA"

    def first_alarm(self, images: Floats, labels: Integers) -> int | None:
        """As ``Watcher.first_alarm``."""
        flat = images.reshape(len(images), math.prod(images.shape[1:]))
        classes: dict[int, _GrowingSet] = {}
        distances: list[float] = []
        for row, (point, label) in enumerate(zip(flat, labels.tolist(), strict=True), start=1):
            nearest = classes.setdefault(label, _GrowingSet(flat.shape[1])).add(point)
            if nearest is not None:
                distances.append(nearest)
                if len(distances) >= self.least and len(distances) % self.every == 0 and self._strange(distances):
                    return row
        return None

    def _strange(self, distances: list[float]) -> bool:
        values = np.array(distances[-_MOST:])
        kept = values[np.abs(values - values.mean()) <= _DEVIATIONS * values.std()]
        if np.ptp(kept) == 0.0:
            return True
        return float(shapiro(kept).statistic) < self.delta
