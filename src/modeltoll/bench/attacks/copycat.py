"""CopyCat CNN: random natural images of another source, trained on the victim's labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from modeltoll.bench.attacks.query_rounds import PAPER_ROUNDS, CandidatePool, RoundPlan, Rounds, query_in_rounds

if TYPE_CHECKING:
    import numpy as np

    from modeltoll.bench.attacks.attack import AttackerResources, Clone, Oracle, RoundCallback
    from modeltoll.bench.students.student import StudentFactory

__all__ = ["CopyCat"]


@dataclass(frozen=True, slots=True)
class CopyCat:
    """Query random foreign images and train on the labels; Correia-Silva et al. 2018, *Copycat CNN*."""

    student_factory: StudentFactory
    settings: Rounds = PAPER_ROUNDS
    name: str = "CopyCat"

    def run(
        self, oracle: Oracle, resources: AttackerResources, rng: np.random.Generator, on_round: RoundCallback
    ) -> Clone:
        """As ``Attack.run``."""
        pool = CandidatePool(resources.foreign.x, oracle.left, rng)
        return query_in_rounds(
            oracle, lambda _, count: pool.draw(count), RoundPlan(self.student_factory, self.settings), rng, on_round
        )
