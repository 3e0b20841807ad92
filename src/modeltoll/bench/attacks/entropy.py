"""Entropy: uncertainty sampling of own images by the entropy of the clone's scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import entropy

from modeltoll.bench.attacks.query_rounds import (
    PAPER_ROUNDS,
    CandidatePool,
    QueriedRows,
    RoundPlan,
    Rounds,
    indices_of_lowest,
    query_in_rounds,
)

if TYPE_CHECKING:
    from modeltoll.bench.attacks.attack import AttackerResources, Clone, Oracle, RoundCallback
    from modeltoll.bench.students.student import StudentFactory
    from modeltoll.records import Floats, Integers

__all__ = ["Entropy", "certainty"]


def certainty(queried: QueriedRows, candidates: Floats) -> Floats:
    """The negative entropy (n,) of the clone's scores, in nats: low where the clone is uncertain."""
    return -np.asarray(entropy(queried.student.scores(candidates), axis=1), np.float64)


def _least_certain(queried: QueriedRows, candidates: Floats, count: int) -> Integers:
    return indices_of_lowest(certainty(queried, candidates), count)


@dataclass(frozen=True, slots=True)
class Entropy:
    """Query the own images with the highest entropy of the clone's scores; uncertainty sampling, Lewis and Gale 1994."""

    student_factory: StudentFactory
    settings: Rounds = PAPER_ROUNDS
    name: str = "Entropy"

    def run(
        self, oracle: Oracle, resources: AttackerResources, rng: np.random.Generator, on_round: RoundCallback
    ) -> Clone:
        """As ``Attack.run``."""
        pool = CandidatePool(resources.own, oracle.left, rng, self.settings.scan)
        return query_in_rounds(
            oracle, pool.chosen_by(_least_certain), RoundPlan(self.student_factory, self.settings), rng, on_round
        )
