"""Leak measure ``entropy``: the normalised entropy of the answer's scores."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import entr

from modeltoll.leak.scores import scores_of

if TYPE_CHECKING:
    from modeltoll.records import Evidence, Floats

__all__ = ["EntropyMeasure"]


@dataclass(frozen=True, slots=True)
class EntropyMeasure:
    """H(p) / log C: the entropy of the scores over its maximum, 0 to 1.

    Source: Dziedzic et al. 2022, section 4. Answers that are labels have entropy 0. ``partial``: the answers contain
    the largest scores only and 0 elsewhere; each adds its term -p log p, and the remaining probability adds nothing.
    """

    name: str = "entropy"
    partial: bool = False

    def measure(self, evidence: Evidence) -> Floats:
        """The normalised entropy of each row's scores, shape (rows,).

        Raises:
            AnswerError: the answer's scores are missing or not probabilities.
        """
        scores = scores_of(evidence, partial=self.partial)
        return np.asarray(np.minimum(entr(scores).sum(axis=1) / math.log(scores.shape[1]), 1.0))
