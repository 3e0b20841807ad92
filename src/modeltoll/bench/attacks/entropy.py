"""Entropy: own images of which the clone is least sure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import entropy

from modeltoll.bench.attacks.query_rounds import PAPER, Loot, Plan, Pool, Rounds, in_rounds, lowest

if TYPE_CHECKING:
    from modeltoll.bench.attacks.attack import Clone, Means, Oracle, Watch
    from modeltoll.bench.students.student import School
    from modeltoll.records import Floats, Integers

__all__ = ["Entropy", "sureness"]


def sureness(loot: Loot, candidates: Floats) -> Floats:
    """The negative entropy of the clone's scores, (n,), in nats: low where the clone is unsure."""
    return -np.asarray(entropy(loot.student.scores(candidates), axis=1), np.float64)


def _least_sure(loot: Loot, candidates: Floats, count: int) -> Integers:
    return lowest(sureness(loot, candidates), count)


@dataclass(frozen=True, slots=True)
class Entropy:
    """The thief; uncertainty sampling, Lewis and Gale 1994."""

    school: School
    settings: Rounds = PAPER
    name: str = "Entropy"

    def run(self, oracle: Oracle, means: Means, rng: np.random.Generator, watch: Watch) -> Clone:
        """Buy what the clone finds hardest."""
        pool = Pool(means.own, oracle.left, rng, self.settings.scan)
        return in_rounds(oracle, pool.chosen_by(_least_sure), Plan(self.school, self.settings), rng, watch)
