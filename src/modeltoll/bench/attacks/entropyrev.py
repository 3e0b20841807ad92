"""EntropyRev: images of which the clone is surest, for those leak least. A thief who knows of the toll."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from modeltoll.bench.attacks.entropy import certainty
from modeltoll.bench.attacks.query_rounds import (
    PAPER,
    CandidatePool,
    QueriedRows,
    RoundPlan,
    Rounds,
    indices_of_lowest,
    query_in_rounds,
)

if TYPE_CHECKING:
    import numpy as np

    from modeltoll.bench.attacks.attack import AttackerResources, Clone, Oracle, Watch
    from modeltoll.bench.students.student import StudentFactory
    from modeltoll.records import Floats, Integers

__all__ = ["FOREIGN", "OWN", "EntropyRev", "EntropyRevParams"]


@dataclass(frozen=True, slots=True)
class EntropyRevParams:
    """Settings: whose images, and which share of the budget is spent at random before the clone is asked."""

    rounds: Rounds = PAPER
    pool: Literal["own", "foreign"] = "own"
    at_random: float = 0.0


OWN = EntropyRevParams()
FOREIGN = EntropyRevParams(pool="foreign", at_random=0.4)  # the authors' 4,000 of 10,000 rows on MNIST


def _most_certain(stolen: QueriedRows, candidates: Floats, count: int) -> Integers:
    return indices_of_lowest(-certainty(stolen, candidates), count)


@dataclass(frozen=True, slots=True)
class EntropyRev:
    """The thief; Dziedzic et al. 2022, section 4."""

    student_factory: StudentFactory
    settings: EntropyRevParams = OWN
    name: str = "EntropyRev"

    def run(self, oracle: Oracle, resources: AttackerResources, rng: np.random.Generator, watch: Watch) -> Clone:
        """Buy what the clone finds easiest."""
        images = resources.own if self.settings.pool == "own" else resources.foreign.x
        pool = CandidatePool(images, oracle.left, rng, self.settings.rounds.scan)
        pick = pool.chosen_by(_most_certain, int(self.settings.at_random * oracle.left))
        return query_in_rounds(oracle, pick, RoundPlan(self.student_factory, self.settings.rounds), rng, watch)
