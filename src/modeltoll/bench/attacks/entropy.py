"""Entropy: own images of which the clone is least sure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import entropy

from modeltoll.bench.attacks.query_rounds import (
    PAPER,
    CandidatePool,
    QueriedRows,
    RoundPlan,
    Rounds,
    indices_of_lowest,
    query_in_rounds,
)

if TYPE_CHECKING:
    from modeltoll.bench.attacks.attack import AttackerResources, Clone, Oracle, Watch
    from modeltoll.bench.students.student import StudentFactory
    from modeltoll.records import Floats, Integers

__all__ = ["Entropy", "certainty"]


def certainty(stolen: QueriedRows, candidates: Floats) -> Floats:
    """The negative entropy of the clone's scores, (n,), in nats: low where the clone is unsure."""
    return -np.asarray(entropy(stolen.student.scores(candidates), axis=1), np.float64)


def _least_certain(stolen: QueriedRows, candidates: Floats, count: int) -> Integers:
    return indices_of_lowest(certainty(stolen, candidates), count)


@dataclass(frozen=True, slots=True)
class Entropy:
    """The thief; uncertainty sampling, Lewis and Gale 1994."""

    student_factory: StudentFactory
    settings: Rounds = PAPER
    name: str = "Entropy"

    def run(self, oracle: Oracle, resources: AttackerResources, rng: np.random.Generator, watch: Watch) -> Clone:
        """Buy what the clone finds hardest."""
        pool = CandidatePool(resources.own, oracle.left, rng, self.settings.scan)
        return query_in_rounds(
            oracle, pool.chosen_by(_least_certain), RoundPlan(self.student_factory, self.settings), rng, watch
        )
