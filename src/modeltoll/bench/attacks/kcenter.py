"""Greedy k-center: own images that lie farthest from all that were bought, in the space of the clone's scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.bench.attacks.query_rounds import PAPER, CandidatePool, QueriedRows, RoundPlan, Rounds, query_in_rounds

if TYPE_CHECKING:
    from modeltoll.bench.attacks.attack import AttackerResources, Clone, Oracle, Watch
    from modeltoll.bench.students.student import StudentFactory
    from modeltoll.records import Floats, Integers

__all__ = ["KCenter", "farthest_first"]


def farthest_first(points: Floats, centres: Floats, count: int) -> Integers:
    """The places of ``count`` points (n, d), each the farthest from the ``centres`` (m, d) and from those before it.

    This covers the points with balls at most twice as wide as the best cover's; Gonzalez 1985.
    """
    away = np.full(len(points), np.inf)
    for centre in centres:
        np.minimum(away, np.square(points - centre).sum(axis=1), out=away)
    chosen = np.empty(count, np.int64)
    for place in range(count):
        chosen[place] = farthest = int(away.argmax())
        np.minimum(away, np.square(points - points[farthest]).sum(axis=1), out=away)
        away[farthest] = -1.0  # never again, even where all that are left lie on a centre
    return chosen


def _uncovered(stolen: QueriedRows, candidates: Floats, count: int) -> Integers:
    return farthest_first(stolen.student.scores(candidates), stolen.student.scores(stolen.images), count)


@dataclass(frozen=True, slots=True)
class KCenter:
    """The thief; core sets, Sener and Savarese 2018."""

    student_factory: StudentFactory
    settings: Rounds = PAPER
    name: str = "Greedy k-center"

    def run(self, oracle: Oracle, resources: AttackerResources, rng: np.random.Generator, watch: Watch) -> Clone:
        """Buy what the clone's scores of the rows bought so far cover worst."""
        pool = CandidatePool(resources.own, oracle.left, rng, self.settings.scan)
        return query_in_rounds(
            oracle, pool.chosen_by(_uncovered), RoundPlan(self.student_factory, self.settings), rng, watch
        )
