"""Leak measure ``entropy``: the normalised entropy of the answer's scores."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import entr

from modeltoll.leak.scores import FEW_SCORES, scores_of

if TYPE_CHECKING:
    from modeltoll.records import Evidence, Floats

__all__ = ["EntropyMeasure"]


@dataclass(frozen=True, slots=True)
class EntropyMeasure:
    """H(p) / log C: the entropy of the scores over its maximum, 0 to 1.

    Source: Dziedzic et al. 2022, section 4. Answers that are labels have entropy 0. ``partial``: the answers contain
    the largest scores only and 0 elsewhere. Then it is the largest entropy of all scores that these can belong to, whose
    remaining probability is spread evenly over the classes that are not shown: a caller who asks for fewer of them does
    not make a row cheaper.
    """

    name: str = "entropy"
    partial: bool = False

    def measure(self, evidence: Evidence) -> Floats:
        """The normalised entropy of each row's scores, shape (rows,).

        Raises:
            AnswerError: the answer's scores are missing or not probabilities.
        """
        scores = scores_of(evidence, partial=self.partial)
        entropy = np.add.reduce(entr(scores), axis=1)
        if len(scores) == 1 and scores.shape[1] <= FEW_SCORES and not self.partial:
            return np.array([min(float(entropy[0]) / math.log(scores.shape[1]), 1.0)])
        if self.partial:
            hidden = (scores == 0.0).sum(axis=1)
            rest = np.where(hidden > 0, np.maximum(1.0 - scores.sum(axis=1), 0.0), 0.0)
            entropy += hidden * entr(rest / np.maximum(hidden, 1))
        return np.asarray(np.minimum(entropy / math.log(scores.shape[1]), 1.0))
