"""Greedy k-center: the own images farthest from all queried ones, in the space of the clone's scores."""

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
    query_in_rounds,
)

if TYPE_CHECKING:
    from modeltoll.bench.attacks.attack import AttackerResources, Clone, Oracle, RoundCallback
    from modeltoll.bench.students.student import StudentFactory
    from modeltoll.records import Floats, Integers

__all__ = ["KCenter", "farthest_first"]


def farthest_first(points: Floats, centres: Floats, count: int) -> Integers:
    """Indices of ``count`` points of (n, d), each the farthest from the ``centres`` (m, d) and from those chosen before.

    The covering radius is at most twice the optimal one; Gonzalez 1985.
    """
    distances = np.full(len(points), np.inf)
    for centre in centres:
        np.minimum(distances, np.square(points - centre).sum(axis=1), out=distances)
    chosen = np.empty(count, np.int64)
    for number in range(count):
        chosen[number] = farthest = int(distances.argmax())
        np.minimum(distances, np.square(points - points[farthest]).sum(axis=1), out=distances)
        distances[farthest] = -1.0  # never chosen again, even if all others lie on a centre
    return chosen


def _uncovered(queried: QueriedRows, candidates: Floats, count: int) -> Integers:
    return farthest_first(queried.student.scores(candidates), queried.student.scores(queried.images), count)


@dataclass(frozen=True, slots=True)
class KCenter:
    """Query a core set of the own images by greedy k-center; Sener and Savarese 2018."""

    student_factory: StudentFactory
    settings: Rounds = PAPER_ROUNDS
    name: str = "Greedy k-center"

    def run(
        self, oracle: Oracle, resources: AttackerResources, rng: np.random.Generator, on_round: RoundCallback
    ) -> Clone:
        """As ``Attack.run``."""
        pool = CandidatePool(resources.own, oracle.left, rng, self.settings.scan)
        return query_in_rounds(
            oracle, pool.chosen_by(_uncovered), RoundPlan(self.student_factory, self.settings), rng, on_round
        )
