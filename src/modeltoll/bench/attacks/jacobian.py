"""Jacobian-based augmentation: own images pushed up, or away from, the clone's opinion of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.bench.attacks.query_rounds import Loot, Plan, Pool, Rounds, in_rounds
from modeltoll.bench.students.student import Course

if TYPE_CHECKING:
    from modeltoll.bench.attacks.attack import Clone, Means, Oracle, Watch
    from modeltoll.bench.students.student import School
    from modeltoll.records import Floats

__all__ = ["PUSH", "TARGETED", "Jacobian", "Push"]


_ROUNDS = Rounds(course=Course(epochs=20))


@dataclass(frozen=True, slots=True)
class Push:
    """Settings: ``seed`` own images to begin with, then steps of ``length`` in every pixel.

    ``targeted``: down the logit of a random other class (Juuti et al. 2019, *PRADA*), not up that of the label. A round
    at most doubles what there is.
    """

    rounds: Rounds = _ROUNDS
    seed: int = 150
    length: float = 0.1
    targeted: bool = False


PUSH = Push()
TARGETED = Push(targeted=True)


@dataclass(frozen=True, slots=True)
class Jacobian:
    """The thief; Papernot et al. 2017, *Practical Black-Box Attacks*, as Dziedzic et al. 2022 run him."""

    school: School
    settings: Push = PUSH
    name: str = "Jacobian"

    def run(self, oracle: Oracle, means: Means, rng: np.random.Generator, watch: Watch) -> Clone:
        """Buy the seed, then again and again pushed copies of a random part of what was bought."""
        pool = Pool(means.own, min(self.settings.seed, oracle.left), rng)

        def pick(loot: Loot | None, count: int) -> Floats:
            if loot is None:
                return pool.draw(min(self.settings.seed, count))
            return self._pushed(loot, count, rng)

        return in_rounds(oracle, pick, Plan(self.school, self.settings.rounds), rng, watch)

    def _pushed(self, loot: Loot, count: int, rng: np.random.Generator) -> Floats:
        chosen = rng.permutation(len(loot.images))[:count]
        images, labels = loot.images[chosen], loot.targets[chosen].argmax(axis=1)
        classes = loot.targets.shape[1]
        if self.settings.targeted:
            labels = (labels + rng.integers(1, classes, len(labels))) % classes
        direction = -1.0 if self.settings.targeted else 1.0
        steps = np.sign(loot.student.slopes(images, np.eye(classes)[labels]))
        pushed: Floats = np.clip(images + direction * self.settings.length * steps, 0.0, 1.0)
        return pushed
