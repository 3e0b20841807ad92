"""WorstCase: the cheapest images, with perfect knowledge of every price; an attack adapted to the toll."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from modeltoll.bench.attacks.query_rounds import (
    PAPER_ROUNDS,
    CandidatePool,
    QueriedRows,
    RoundPlan,
    Rounds,
    indices_of_lowest,
    query_in_rounds,
)
from modeltoll.errors import ModeltollError

if TYPE_CHECKING:
    from modeltoll.bench.attacks.attack import AttackerResources, Clone, Oracle, RoundCallback
    from modeltoll.bench.students.student import StudentFactory
    from modeltoll.records import Floats

__all__ = ["WORSTCASE_OOD_PARAMS", "WORSTCASE_PARAMS", "CostUnknown", "WorstCase", "WorstCaseParams"]


class CostUnknown(ModeltollError):
    """The attack needs ``AttackerResources.cost``, which is None."""


@dataclass(frozen=True, slots=True)
class WorstCaseParams:
    """Settings: the pool of images. Where ``rounds.scan`` is given, only that many of them are considered in all."""

    rounds: Rounds = PAPER_ROUNDS
    pool: Literal["own", "foreign"] = "own"


WORSTCASE_PARAMS = WorstCaseParams()
WORSTCASE_OOD_PARAMS = WorstCaseParams(pool="foreign")


@dataclass(frozen=True, slots=True)
class WorstCase:
    """Query the images with the lowest price; Dziedzic et al. 2022, section 4."""

    student_factory: StudentFactory
    settings: WorstCaseParams = WORSTCASE_PARAMS
    name: str = "WorstCase"

    def run(
        self, oracle: Oracle, resources: AttackerResources, rng: np.random.Generator, on_round: RoundCallback
    ) -> Clone:
        """As ``Attack.run``; queries are in ascending order of ``resources.cost``.

        Raises:
            CostUnknown: ``resources.cost`` is None.
        """
        if resources.cost is None:
            raise CostUnknown("WorstCase needs the price of every image in advance: set AttackerResources.cost")
        images, budget = resources.own if self.settings.pool == "own" else resources.foreign.x, oracle.left
        considered = len(images) if self.settings.rounds.scan is None else max(budget, self.settings.rounds.scan)
        candidates = CandidatePool(images, budget, rng).draw(considered)
        cheapest = candidates[indices_of_lowest(resources.cost(candidates), budget)]

        def next_images(queried: QueriedRows | None, count: int) -> Floats:
            done = 0 if queried is None else len(queried.images)
            return cheapest[done : done + count]

        return query_in_rounds(
            oracle, next_images, RoundPlan(self.student_factory, self.settings.rounds), rng, on_round
        )
