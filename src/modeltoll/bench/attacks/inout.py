"""InOut: foreign images with own ones between them, so that the caller looks honest from time to time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.bench.attacks.query_rounds import CandidatePool, QueriedRows, RoundPlan, Rounds, query_in_rounds

if TYPE_CHECKING:
    from modeltoll.bench.attacks.attack import AttackerResources, Clone, Oracle, Watch
    from modeltoll.bench.students.student import StudentFactory
    from modeltoll.records import Floats

__all__ = ["MIXED", "InOut", "InOutParams"]


_ROUNDS = Rounds(step=1500)


@dataclass(frozen=True, slots=True)
class InOutParams:
    """Settings: the share of own images, which end each round. By default 500 of 1,500, after 1,000 foreign ones."""

    rounds: Rounds = _ROUNDS
    own: float = 1 / 3


MIXED = InOutParams()


@dataclass(frozen=True, slots=True)
class InOut:
    """The thief; Dziedzic et al. 2022, section 4."""

    student_factory: StudentFactory
    settings: InOutParams = MIXED
    name: str = "InOut"

    def run(self, oracle: Oracle, resources: AttackerResources, rng: np.random.Generator, watch: Watch) -> Clone:
        """Buy both at random, in turns."""
        budget, share = oracle.left, self.settings.own
        own = CandidatePool(resources.own, int(share * budget), rng)
        foreign = CandidatePool(resources.foreign.x, budget - int(share * budget), rng)

        def pick(stolen: QueriedRows | None, count: int) -> Floats:
            done = 0 if stolen is None else len(stolen.images)
            inside = int(share * (done + count)) - int(share * done)  # so that the roundings never add up
            return np.concatenate([foreign.draw(count - inside), own.draw(inside)])

        return query_in_rounds(oracle, pick, RoundPlan(self.student_factory, self.settings.rounds), rng, watch)
