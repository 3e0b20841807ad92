"""EntropyRev: images of which the clone is surest, for those leak least. A thief who knows of the toll."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from modeltoll.bench.attacks.entropy import sureness
from modeltoll.bench.attacks.query_rounds import PAPER, Loot, Plan, Pool, Rounds, in_rounds, lowest

if TYPE_CHECKING:
    import numpy as np

    from modeltoll.bench.attacks.attack import Clone, Means, Oracle, Watch
    from modeltoll.bench.students.student import School
    from modeltoll.records import Floats, Integers

__all__ = ["FOREIGN", "OWN", "EntropyRev", "Sure"]


@dataclass(frozen=True, slots=True)
class Sure:
    """Settings: whose images, and which share of the budget is spent at random before the clone is asked."""

    rounds: Rounds = PAPER
    pool: Literal["own", "foreign"] = "own"
    at_random: float = 0.0


OWN = Sure()
FOREIGN = Sure(pool="foreign", at_random=0.4)  # the authors' 4,000 of 10,000 rows on MNIST


def _surest(loot: Loot, candidates: Floats, count: int) -> Integers:
    return lowest(-sureness(loot, candidates), count)


@dataclass(frozen=True, slots=True)
class EntropyRev:
    """The thief; Dziedzic et al. 2022, section 4."""

    school: School
    settings: Sure = OWN
    name: str = "EntropyRev"

    def run(self, oracle: Oracle, means: Means, rng: np.random.Generator, watch: Watch) -> Clone:
        """Buy what the clone finds easiest."""
        images = means.own if self.settings.pool == "own" else means.foreign.x
        pool = Pool(images, oracle.left, rng, self.settings.rounds.scan)
        pick = pool.chosen_by(_surest, int(self.settings.at_random * oracle.left))
        return in_rounds(oracle, pick, Plan(self.school, self.settings.rounds), rng, watch)
