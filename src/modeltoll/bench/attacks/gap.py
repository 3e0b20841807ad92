"""Gap: own images for which the clone hesitates between two classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.bench.attacks.query_rounds import PAPER, Loot, Plan, Pool, Rounds, in_rounds, lowest

if TYPE_CHECKING:
    from modeltoll.bench.attacks.attack import Clone, Means, Oracle, Watch
    from modeltoll.bench.students.student import School
    from modeltoll.records import Floats, Integers

__all__ = ["Gap"]


def _narrowest(loot: Loot, candidates: Floats, count: int) -> Integers:
    second, first = np.partition(loot.student.scores(candidates), -2, axis=1)[:, -2:].T
    return lowest(first - second, count)


@dataclass(frozen=True, slots=True)
class Gap:
    """The thief; margin sampling, Scheffer et al. 2001."""

    school: School
    settings: Rounds = PAPER
    name: str = "Gap"

    def run(self, oracle: Oracle, means: Means, rng: np.random.Generator, watch: Watch) -> Clone:
        """Buy where the two most probable classes are closest."""
        pool = Pool(means.own, oracle.left, rng, self.settings.scan)
        return in_rounds(oracle, pool.chosen_by(_narrowest), Plan(self.school, self.settings), rng, watch)
