"""Gap: own images for which the clone hesitates between two classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

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

__all__ = ["Gap"]


def _narrowest(stolen: QueriedRows, candidates: Floats, count: int) -> Integers:
    second, first = np.partition(stolen.student.scores(candidates), -2, axis=1)[:, -2:].T
    return indices_of_lowest(first - second, count)


@dataclass(frozen=True, slots=True)
class Gap:
    """The thief; margin sampling, Scheffer et al. 2001."""

    student_factory: StudentFactory
    settings: Rounds = PAPER
    name: str = "Gap"

    def run(self, oracle: Oracle, resources: AttackerResources, rng: np.random.Generator, watch: Watch) -> Clone:
        """Buy where the two most probable classes are closest."""
        pool = CandidatePool(resources.own, oracle.left, rng, self.settings.scan)
        return query_in_rounds(
            oracle, pool.chosen_by(_narrowest), RoundPlan(self.student_factory, self.settings), rng, watch
        )
