"""Brightness: foreign images that are as bright as own ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.bench.attacks.attack import AttackerResources, Clone, Oracle, RoundCallback
from modeltoll.bench.attacks.query_rounds import (
    PAPER_ROUNDS,
    CandidatePool,
    QueriedRows,
    RoundPlan,
    Rounds,
    indices_of_lowest,
    query_in_rounds,
)
from modeltoll.bench.attacks.registry import AttackSpec
from modeltoll.bench.students.student import StudentFactory

if TYPE_CHECKING:
    from modeltoll.records import Floats, Integers


@dataclass(frozen=True, slots=True)
class Brightness:
    """Query the foreign images whose brightness is nearest to the mean of the own images."""

    student_factory: StudentFactory
    settings: Rounds = PAPER_ROUNDS
    name: str = "Brightness"

    def run(
        self, oracle: Oracle, resources: AttackerResources, rng: np.random.Generator, on_round: RoundCallback
    ) -> Clone:
        """As ``Attack.run``."""
        own_brightness = resources.own.mean()

        def nearest(queried: QueriedRows, candidates: Floats, count: int) -> Integers:
            brightness = candidates.reshape(len(candidates), -1).mean(axis=1)
            return indices_of_lowest(np.abs(brightness - own_brightness), count)

        pool = CandidatePool(resources.foreign.x, oracle.left, rng, self.settings.scan)
        return query_in_rounds(
            oracle, pool.chosen_by(nearest), RoundPlan(self.student_factory, self.settings), rng, on_round
        )


SPEC = AttackSpec("brightness", Brightness, "Brightness", PAPER_ROUNDS, Rounds(step=2500, scan=10_000))
