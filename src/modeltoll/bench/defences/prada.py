"""PRADA: an alarm if the distances between a caller's queries are not normally distributed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import shapiro

if TYPE_CHECKING:
    from modeltoll.records import Floats, Integers

__all__ = ["Prada"]

_MAX_DISTANCES = 5000  # the number up to which scipy's Shapiro-Wilk test is accurate
_DEVIATIONS = 3.0  # distances farther from the mean, in standard deviations, are outliers


class _GrowingSet:
    """The growing set of one class: queries far from all members before them."""

    def __init__(self, dimensions: int) -> None:
        self._points = np.empty((16, dimensions))
        self._count = 0
        self._distances: list[float] = []
        self._threshold = 0.0

    def add(self, point: Floats) -> float | None:
        """The distance to the nearest member, or None if there is none; a query beyond the threshold becomes a member."""
        nearest = None
        if self._count:
            differences = self._points[: self._count] - point
            nearest = float(np.sqrt(np.einsum("ij,ij->i", differences, differences).min()))
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
    """An alarm if the Shapiro-Wilk statistic W of the distances is below ``delta``.

    Juuti et al. 2019, *PRADA: protecting against DNN model stealing attacks*, algorithm 1. The first test needs
    ``first_test`` distances; the next ones follow every ``test_interval``. The paper tunes delta for each data set; here
    it is the same for all.
    """

    delta: float = 0.95
    first_test: int = 100
    test_interval: int = 50
    name: str = "PRADA"

    def first_alarm(self, images: Floats, labels: Integers) -> int | None:
        """As ``Detector.first_alarm``."""
        flat = images.reshape(len(images), math.prod(images.shape[1:]))
        classes: dict[int, _GrowingSet] = {}
        distances: list[float] = []
        for row, (point, label) in enumerate(zip(flat, labels.tolist(), strict=True), start=1):
            nearest = classes.setdefault(label, _GrowingSet(flat.shape[1])).add(point)
            if nearest is not None:
                distances.append(nearest)
                if (
                    len(distances) >= self.first_test
                    and len(distances) % self.test_interval == 0
                    and self._is_abnormal(distances)
                ):
                    return row
        return None

    def _is_abnormal(self, distances: list[float]) -> bool:
        values = np.array(distances[-_MAX_DISTANCES:])
        inliers = values[np.abs(values - values.mean()) <= _DEVIATIONS * values.std()]
        if np.ptp(inliers) == 0.0:
            return True
        return float(shapiro(inliers).statistic) < self.delta
