"""WorstCase: the cheapest images first, by a perfect knowledge of what each leaks. A thief who knows of the toll."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from modeltoll.bench.attacks.query_rounds import (
    PAPER,
    CandidatePool,
    QueriedRows,
    RoundPlan,
    Rounds,
    indices_of_lowest,
    query_in_rounds,
)
from modeltoll.errors import ModeltollError

if TYPE_CHECKING:
    from modeltoll.bench.attacks.attack import AttackerResources, Clone, Oracle, Watch
    from modeltoll.bench.students.student import StudentFactory
    from modeltoll.records import Floats

__all__ = ["FOREIGN", "OWN", "CostUnknown", "WorstCase", "WorstCaseParams"]


class CostUnknown(ModeltollError):
    """A thief who lives by knowing the cost was not told it."""


@dataclass(frozen=True, slots=True)
class WorstCaseParams:
    """Settings: whose images he chooses from. Where ``rounds.scan`` is given, he looks at that many all in all."""

    rounds: Rounds = PAPER
    pool: Literal["own", "foreign"] = "own"


OWN = WorstCaseParams()
FOREIGN = WorstCaseParams(pool="foreign")


@dataclass(frozen=True, slots=True)
class WorstCase:
    """The thief; Dziedzic et al. 2022, section 4."""

    student_factory: StudentFactory
    settings: WorstCaseParams = OWN
    name: str = "WorstCase"

    def run(self, oracle: Oracle, resources: AttackerResources, rng: np.random.Generator, watch: Watch) -> Clone:
        """Buy in the order of ``resources.cost``.

        Raises:
            CostUnknown: the means do not tell the cost.
        """
        if resources.cost is None:
            raise CostUnknown("WorstCase needs to know what each image leaks: give the means a cost")
        images, budget = resources.own if self.settings.pool == "own" else resources.foreign.x, oracle.left
        seen = len(images) if self.settings.rounds.scan is None else max(budget, self.settings.rounds.scan)
        looked_at = CandidatePool(images, budget, rng).draw(seen)
        bought = looked_at[indices_of_lowest(resources.cost(looked_at), budget)]

        def pick(stolen: QueriedRows | None, count: int) -> Floats:
            done = 0 if stolen is None else len(stolen.images)
            return bought[done : done + count]

        return query_in_rounds(oracle, pick, RoundPlan(self.student_factory, self.settings.rounds), rng, watch)
