"""Standard: images of the victim's kind, at random, for their labels. The caller whom nobody can tell from honest ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from modeltoll.bench.attacks.query_rounds import PAPER, CandidatePool, RoundPlan, Rounds, query_in_rounds

if TYPE_CHECKING:
    import numpy as np

    from modeltoll.bench.attacks.attack import AttackerResources, Clone, Oracle, Watch
    from modeltoll.bench.students.student import StudentFactory

__all__ = ["Standard"]


@dataclass(frozen=True, slots=True)
class Standard:
    """The thief; Dziedzic et al. 2022, section 4."""

    student_factory: StudentFactory
    settings: Rounds = PAPER
    name: str = "Standard"

    def run(self, oracle: Oracle, resources: AttackerResources, rng: np.random.Generator, watch: Watch) -> Clone:
        """Buy own images at random."""
        pool = CandidatePool(resources.own, oracle.left, rng)
        return query_in_rounds(
            oracle, lambda _, count: pool.draw(count), RoundPlan(self.student_factory, self.settings), rng, watch
        )
