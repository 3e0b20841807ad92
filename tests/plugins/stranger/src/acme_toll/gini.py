"""The Gini impurity of an answer's scores: 1 - sum p^2, between 0 and 1."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from modeltoll.leak.registry import MeasureSpec
from modeltoll.leak.scores import scores_of

if TYPE_CHECKING:
    from modeltoll.records import Evidence, Floats


class GiniMeasure:
    """1 - sum p^2, to the power ``sharpness``."""

    name = "gini"

    def __init__(self, sharpness: float = 1.0) -> None:
        self._sharpness = sharpness

    def measure(self, evidence: Evidence) -> Floats:
        """The leak of each row, shape (rows,)."""
        scores = scores_of(evidence)
        impurity = np.maximum(1.0 - (scores**2).sum(axis=1), 0.0)
        return np.asarray(impurity**self._sharpness)


SPEC = MeasureSpec("gini", GiniMeasure)
