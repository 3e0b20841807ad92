"""Leak measure ``gap``: how close the second largest score is to the largest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.leak.scores import scores_of

if TYPE_CHECKING:
    from modeltoll.records import Evidence, Floats

__all__ = ["GapMeasure"]


@dataclass(frozen=True, slots=True)
class GapMeasure:
    """1 - (p1 - p2), where p1 and p2 are the two largest scores: 0 for a certain class, 1 for a tie.

    Source: Dziedzic et al. 2022, section 4. ``partial``: the answers contain the largest scores only and 0 elsewhere;
    with a single score p1, p2 is as large as it can be, the smaller of p1 and 1 - p1: a caller who asks for fewer classes
    does not make a row cheaper.
    """

    name: str = "gap"
    partial: bool = False

    def measure(self, evidence: Evidence) -> Floats:
        """1 minus the gap of each row's scores, shape (rows,).

        Raises:
            AnswerError: the answer's scores are missing or not probabilities.
        """
        largest = np.partition(scores_of(evidence, partial=self.partial), -2, axis=1)
        first, second = largest[:, -1], largest[:, -2]
        if self.partial:
            second = np.where(second > 0.0, second, np.minimum(first, np.maximum(1.0 - first, 0.0)))
        return np.asarray(1.0 - (first - second))
