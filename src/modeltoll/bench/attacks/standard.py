"""Standard: random images of the victim's own distribution, trained on its labels; indistinguishable from honest callers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from modeltoll.bench.attacks.query_rounds import PAPER_ROUNDS, CandidatePool, RoundPlan, Rounds, query_in_rounds

if TYPE_CHECKING:
    import numpy as np

    from modeltoll.bench.attacks.attack import AttackerResources, Clone, Oracle, RoundCallback
    from modeltoll.bench.students.student import StudentFactory

__all__ = ["Standard"]


@dataclass(frozen=True, slots=True)
class Standard:
    """Query random own images and train on the labels; Dziedzic et al. 2022, section 4."""

    student_factory: StudentFactory
    settings: Rounds = PAPER_ROUNDS
    name: str = "Standard"

    def run(
        self, oracle: Oracle, resources: AttackerResources, rng: np.random.Generator, on_round: RoundCallback
    ) -> Clone:
        """As ``Attack.run``."""
        pool = CandidatePool(resources.own, oracle.left, rng)
        return query_in_rounds(
            oracle, lambda _, count: pool.draw(count), RoundPlan(self.student_factory, self.settings), rng, on_round
        )
