"""Generated text: how undecided the model was over its tokens."""

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
    """The entropies of a completion's tokens, in nats, summed: a long answer shows more than a short one.

    Of each token those probabilities add their term -p log p that the model server gives; what it does not is not
    charged, so this is at most the entropy of the tokens that were drawn.
    """

    name: str = "tokens"

    def measure(self, evidence: Evidence) -> Floats:
        """The summed entropy of each row's tokens, shape (rows,); 0 for a completion without any.

        Raises:
            AnswerError: the answer's tokens are missing, or not one table of them per row.
        """
        if evidence.tokens is None:
            raise AnswerError("the answer shows no tokens that could be measured")
        if len(evidence.tokens) != evidence.rows:
            raise AnswerError(f"the request has {evidence.rows} rows but the answer has {len(evidence.tokens)}")
        leaks = np.array([float(entr(table).sum()) for table in evidence.tokens])
        if not np.isfinite(leaks).all() or (leaks < 0).any():
            raise AnswerError("the answer's tokens have numbers that are no probabilities")
        return leaks
