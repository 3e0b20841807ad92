"""Leak measure ``tokens``: the summed entropy of the tokens of generated text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import entr

from modeltoll.errors import AnswerError

if TYPE_CHECKING:
    from modeltoll.records import Evidence, Floats

__all__ = ["TokensMeasure"]


@dataclass(frozen=True, slots=True)
class TokensMeasure:
    """The sum of the entropies of a completion's tokens, in nats; longer answers leak more.

    Each probability that the upstream reports for a token adds its term -p log p; the remaining probability adds
    nothing, so this is at most the entropy of the distributions that are reported. Those must be the model's own, at
    temperature 1: a lower temperature would make the measured leak small, and show as much of the model.
    """

    name: str = "tokens"

    def measure(self, evidence: Evidence) -> Floats:
        """The summed entropy of each row's tokens, shape (rows,), in nats; 0 for a completion without tokens.

        Raises:
            AnswerError: the tokens are missing, not one table per row, or not probabilities.
        """
        if evidence.tokens is None:
            raise AnswerError("the answer has no tokens that can be measured")
        if len(evidence.tokens) != evidence.rows:
            raise AnswerError(f"the request has {evidence.rows} rows but the answer has {len(evidence.tokens)}")
        leaks = np.array([float(entr(table).sum()) for table in evidence.tokens])
        if not np.isfinite(leaks).all() or (leaks < 0).any():
            raise AnswerError("the token probabilities of the answer are not probabilities")
        return leaks
