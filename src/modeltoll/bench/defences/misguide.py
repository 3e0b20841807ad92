"""MisGUIDE: queries that do not look like the private data are answered wrongly with a fixed probability."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from modeltoll.records import Floats

__all__ = ["Misguiding"]


@dataclass(frozen=True, slots=True)
class Misguiding:
    """A share ``wrong`` of the rows whose leak by one measure is above ``threshold`` get the scores of another class.

    Gurve et al. 2024, *MisGUIDE: defense against data-free deep learning model extraction*, arXiv 2403.18580: first a
    detector of foreign queries, then an answer by chance. Their detector is a vision transformer; here it is the leak in
    column ``measure``, which reads the input. Their share is a parameter. The chance is a function of the row's scores with
    a ``key``, so that the same query has the same answer and repeating it does not average the defence out.
    """

    measure: int
    threshold: float
    wrong: float = 0.5
    key: bytes = b"misguide"
    name: str = "MisGUIDE"

    def answer(self, scores: Floats, leaks: Floats) -> Floats:
        """Scores of detected rows with the highest one swapped with another class's, with probability ``wrong``."""
        answers = scores.copy()
        for row in np.flatnonzero(leaks[:, self.measure] > self.threshold):
            rng = np.random.default_rng(list(blake2b(scores[row].tobytes(), key=self.key, digest_size=16).digest()))
            if rng.random() < self.wrong:
                top = scores[row].argmax()
                other = (top + rng.integers(1, scores.shape[1])) % scores.shape[1]
                answers[row, [top, other]] = scores[row, [other, top]]
        return answers
