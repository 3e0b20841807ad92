"""InOut: foreign images mixed with own ones, so that a part of the traffic is honest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.bench.attacks.query_rounds import CandidatePool, QueriedRows, RoundPlan, Rounds, query_in_rounds

if TYPE_CHECKING:
    from modeltoll.bench.attacks.attack import AttackerResources, Clone, Oracle, RoundCallback
    from modeltoll.bench.students.student import StudentFactory
    from modeltoll.records import Floats

__all__ = ["INOUT_PARAMS", "InOut", "InOutParams"]


_ROUNDS = Rounds(round_rows=1500)


@dataclass(frozen=True, slots=True)
class InOutParams:
    """Settings: the share of own images, which end each round. By default 1,000 foreign images, then 500 own ones."""

    rounds: Rounds = _ROUNDS
    own: float = 1 / 3


INOUT_PARAMS = InOutParams()


@dataclass(frozen=True, slots=True)
class InOut:
    """Query random foreign and own images in a fixed proportion; Dziedzic et al. 2022, section 4."""

    student_factory: StudentFactory
    settings: InOutParams = INOUT_PARAMS
    name: str = "InOut"

    def run(
        self, oracle: Oracle, resources: AttackerResources, rng: np.random.Generator, on_round: RoundCallback
    ) -> Clone:
        """As ``Attack.run``."""
        budget, share = oracle.left, self.settings.own
        own = CandidatePool(resources.own, int(share * budget), rng)
        foreign = CandidatePool(resources.foreign.x, budget - int(share * budget), rng)

        def next_images(queried: QueriedRows | None, count: int) -> Floats:
            done = 0 if queried is None else len(queried.images)
            own_count = int(share * (done + count)) - int(share * done)  # so that rounding errors never add up
            return np.concatenate([foreign.draw(count - own_count), own.draw(own_count)])

        return query_in_rounds(
            oracle, next_images, RoundPlan(self.student_factory, self.settings.rounds), rng, on_round
        )
