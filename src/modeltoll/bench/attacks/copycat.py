"""CopyCat CNN: natural images of another kind, at random, for their labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from modeltoll.bench.attacks.query_rounds import PAPER, Plan, Pool, Rounds, in_rounds

if TYPE_CHECKING:
    import numpy as np

    from modeltoll.bench.attacks.attack import Clone, Means, Oracle, Watch
    from modeltoll.bench.students.student import School

__all__ = ["CopyCat"]


@dataclass(frozen=True, slots=True)
class CopyCat:
    """The thief; Correia-Silva et al. 2018, *Copycat CNN*."""

    school: School
    settings: Rounds = PAPER
    name: str = "CopyCat"

    def run(self, oracle: Oracle, means: Means, rng: np.random.Generator, watch: Watch) -> Clone:
        """Buy foreign images at random."""
        pool = Pool(means.foreign.x, oracle.left, rng)
        return in_rounds(oracle, lambda _, count: pool.draw(count), Plan(self.school, self.settings), rng, watch)
