"""How undecided the answer is."""

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
    """H(p) / log C: the entropy of the scores as a part of the largest possible, 0 to 1.

    Source: Dziedzic et al. 2022, section 4. Answers that are mere labels have entropy 0. ``partial``: the answers show
    only the largest scores, 0 elsewhere; each adds its own term -p log p, and what is not shown is not charged.
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
