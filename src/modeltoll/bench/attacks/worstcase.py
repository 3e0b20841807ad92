"""WorstCase: the cheapest images first, by a perfect knowledge of what each leaks. A thief who knows of the toll."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from modeltoll.bench.attacks.query_rounds import PAPER, Loot, Plan, Pool, Rounds, in_rounds, lowest
from modeltoll.errors import ModeltollError

if TYPE_CHECKING:
    from modeltoll.bench.attacks.attack import Clone, Means, Oracle, Watch
    from modeltoll.bench.students.student import School
    from modeltoll.records import Floats

__all__ = ["FOREIGN", "OWN", "Cheapest", "CostUnknown", "WorstCase"]


class CostUnknown(ModeltollError):
    """A thief who lives by knowing the cost was not told it."""


@dataclass(frozen=True, slots=True)
class Cheapest:
    """Settings: whose images he chooses from. Where ``rounds.scan`` is given, he looks at that many all in all."""

    rounds: Rounds = PAPER
    pool: Literal["own", "foreign"] = "own"


OWN = Cheapest()
FOREIGN = Cheapest(pool="foreign")


@dataclass(frozen=True, slots=True)
class WorstCase:
    """The thief; Dziedzic et al. 2022, section 4."""

    school: School
    settings: Cheapest = OWN
    name: str = "WorstCase"

    def run(self, oracle: Oracle, means: Means, rng: np.random.Generator, watch: Watch) -> Clone:
        """Buy in the order of ``means.cost``.

        Raises:
            CostUnknown: the means do not tell the cost.
        """
        if means.cost is None:
            raise CostUnknown("WorstCase needs to know what each image leaks: give the means a cost")
        images, budget = means.own if self.settings.pool == "own" else means.foreign.x, oracle.left
        seen = len(images) if self.settings.rounds.scan is None else max(budget, self.settings.rounds.scan)
        looked_at = Pool(images, budget, rng).draw(seen)
        bought = looked_at[lowest(means.cost(looked_at), budget)]

        def pick(loot: Loot | None, count: int) -> Floats:
            done = 0 if loot is None else len(loot.images)
            return bought[done : done + count]

        return in_rounds(oracle, pick, Plan(self.school, self.settings.rounds), rng, watch)
