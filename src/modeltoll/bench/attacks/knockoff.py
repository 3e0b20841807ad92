"""Knockoff Nets with random queries: natural images of another source, trained on the victim's probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from modeltoll.bench.attacks.query_rounds import CandidatePool, RoundPlan, Rounds, query_in_rounds
from modeltoll.bench.students.student import TrainingSchedule

if TYPE_CHECKING:
    import numpy as np

    from modeltoll.bench.attacks.attack import AttackerResources, Clone, Oracle, RoundCallback
    from modeltoll.bench.students.student import StudentFactory

__all__ = ["KNOCKOFF_ROUNDS", "KnockoffRandom"]

KNOCKOFF_ROUNDS = Rounds(schedule=TrainingSchedule(epochs=100))


@dataclass(frozen=True, slots=True)
class KnockoffRandom:
    """Query random foreign images and train on the probabilities by soft cross entropy.

    Orekondy et al. 2019, *Knockoff Nets*, section 4.1.
    """

    student_factory: StudentFactory
    settings: Rounds = KNOCKOFF_ROUNDS
    name: str = "Knockoff random"

    def run(
        self, oracle: Oracle, resources: AttackerResources, rng: np.random.Generator, on_round: RoundCallback
    ) -> Clone:
        """As ``Attack.run``."""
        pool = CandidatePool(resources.foreign.x, oracle.left, rng)
        plan = RoundPlan(self.student_factory, self.settings, labels_only=False)
        return query_in_rounds(oracle, lambda _, count: pool.draw(count), plan, rng, on_round)
