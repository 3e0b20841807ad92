"""EntropyRev: the images of which the clone is most certain, which leak least; an attack adapted to the toll."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from modeltoll.bench.attacks.entropy import certainty
from modeltoll.bench.attacks.query_rounds import (
    PAPER_ROUNDS,
    CandidatePool,
    QueriedRows,
    RoundPlan,
    Rounds,
    indices_of_lowest,
    query_in_rounds,
)

if TYPE_CHECKING:
    import numpy as np

    from modeltoll.bench.attacks.attack import AttackerResources, Clone, Oracle, RoundCallback
    from modeltoll.bench.students.student import StudentFactory
    from modeltoll.records import Floats, Integers

__all__ = ["ENTROPYREV_OOD_PARAMS", "ENTROPYREV_PARAMS", "EntropyRev", "EntropyRevParams"]


@dataclass(frozen=True, slots=True)
class EntropyRevParams:
    """Settings: the pool of images, and the share of the budget that is queried at random before the clone chooses."""

    rounds: Rounds = PAPER_ROUNDS
    pool: Literal["own", "foreign"] = "own"
    at_random: float = 0.0


ENTROPYREV_PARAMS = EntropyRevParams()
ENTROPYREV_OOD_PARAMS = EntropyRevParams(pool="foreign", at_random=0.4)  # the authors' 4,000 of 10,000 rows on MNIST


def _most_certain(queried: QueriedRows, candidates: Floats, count: int) -> Integers:
    return indices_of_lowest(-certainty(queried, candidates), count)


@dataclass(frozen=True, slots=True)
class EntropyRev:
    """Query the images with the lowest entropy of the clone's scores; Dziedzic et al. 2022, section 4."""

    student_factory: StudentFactory
    settings: EntropyRevParams = ENTROPYREV_PARAMS
    name: str = "EntropyRev"

    def run(
        self, oracle: Oracle, resources: AttackerResources, rng: np.random.Generator, on_round: RoundCallback
    ) -> Clone:
        """As ``Attack.run``."""
        images = resources.own if self.settings.pool == "own" else resources.foreign.x
        pool = CandidatePool(images, oracle.left, rng, self.settings.rounds.scan)
        next_images = pool.chosen_by(_most_certain, int(self.settings.at_random * oracle.left))
        return query_in_rounds(
            oracle, next_images, RoundPlan(self.student_factory, self.settings.rounds), rng, on_round
        )
