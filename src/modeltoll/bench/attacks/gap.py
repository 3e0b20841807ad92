"""Gap: margin sampling of own images by the difference of the clone's two highest scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

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

__all__ = ["Gap"]


def _narrowest(queried: QueriedRows, candidates: Floats, count: int) -> Integers:
    second, first = np.partition(queried.student.scores(candidates), -2, axis=1)[:, -2:].T
    return indices_of_lowest(first - second, count)


@dataclass(frozen=True, slots=True)
class Gap:
    """Query the own images with the smallest margin of the clone's scores; margin sampling, Scheffer et al. 2001."""

    student_factory: StudentFactory
    settings: Rounds = PAPER_ROUNDS
    name: str = "Gap"

    def run(
        self, oracle: Oracle, resources: AttackerResources, rng: np.random.Generator, on_round: RoundCallback
    ) -> Clone:
        """As ``Attack.run``."""
        pool = CandidatePool(resources.own, oracle.left, rng, self.settings.scan)
        return query_in_rounds(
            oracle, pool.chosen_by(_narrowest), RoundPlan(self.student_factory, self.settings), rng, on_round
        )
