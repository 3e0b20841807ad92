"""Knockoff Nets with random queries: natural images of another kind, for their probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from modeltoll.bench.attacks.query_rounds import Plan, Pool, Rounds, in_rounds
from modeltoll.bench.students.student import Course

if TYPE_CHECKING:
    import numpy as np

    from modeltoll.bench.attacks.attack import Clone, Means, Oracle, Watch
    from modeltoll.bench.students.student import School

__all__ = ["FULL", "KnockoffRandom"]

FULL = Rounds(course=Course(epochs=100))


@dataclass(frozen=True, slots=True)
class KnockoffRandom:
    """The thief; Orekondy et al. 2019, *Knockoff Nets*, section 4.1."""

    school: School
    settings: Rounds = FULL
    name: str = "Knockoff random"

    def run(self, oracle: Oracle, means: Means, rng: np.random.Generator, watch: Watch) -> Clone:
        """Buy foreign images at random, and learn their probabilities by a soft cross entropy."""
        pool = Pool(means.foreign.x, oracle.left, rng)
        plan = Plan(self.school, self.settings, labels_only=False)
        return in_rounds(oracle, lambda _, count: pool.draw(count), plan, rng, watch)
