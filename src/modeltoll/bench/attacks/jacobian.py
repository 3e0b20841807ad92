"""Jacobian-based augmentation: own images pushed up, or away from, the clone's opinion of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.bench.attacks.query_rounds import CandidatePool, QueriedRows, RoundPlan, Rounds, query_in_rounds
from modeltoll.bench.students.student import TrainingSchedule

if TYPE_CHECKING:
    from modeltoll.bench.attacks.attack import AttackerResources, Clone, Oracle, Watch
    from modeltoll.bench.students.student import StudentFactory
    from modeltoll.records import Floats

__all__ = ["PUSH", "TARGETED", "Jacobian", "JacobianParams"]


_ROUNDS = Rounds(course=TrainingSchedule(epochs=20))


@dataclass(frozen=True, slots=True)
class JacobianParams:
    """Settings: ``seed`` own images to begin with, then steps of ``length`` in every pixel.

    ``targeted``: down the logit of a random other class (Juuti et al. 2019, *PRADA*), not up that of the label. A round
    at most doubles what there is.
    """

    rounds: Rounds = _ROUNDS
    seed: int = 150
    length: float = 0.1
    targeted: bool = False


PUSH = JacobianParams()
TARGETED = JacobianParams(targeted=True)


@dataclass(frozen=True, slots=True)
class Jacobian:
    """The thief; Papernot et al. 2017, *Practical Black-Box Attacks*, as Dziedzic et al. 2022 run him."""

    student_factory: StudentFactory
    settings: JacobianParams = PUSH
    name: str = "Jacobian"

    def run(self, oracle: Oracle, resources: AttackerResources, rng: np.random.Generator, watch: Watch) -> Clone:
        """Buy the seed, then again and again pushed copies of a random part of what was bought."""
        pool = CandidatePool(resources.own, min(self.settings.seed, oracle.left), rng)

        def pick(stolen: QueriedRows | None, count: int) -> Floats:
            if stolen is None:
                return pool.draw(min(self.settings.seed, count))
            return self._pushed(stolen, count, rng)

        return query_in_rounds(oracle, pick, RoundPlan(self.student_factory, self.settings.rounds), rng, watch)

    def _pushed(self, stolen: QueriedRows, count: int, rng: np.random.Generator) -> Floats:
        chosen = rng.permutation(len(stolen.images))[:count]
        images, labels = stolen.images[chosen], stolen.targets[chosen].argmax(axis=1)
        classes = stolen.targets.shape[1]
        if self.settings.targeted:
            labels = (labels + rng.integers(1, classes, len(labels))) % classes
        direction = -1.0 if self.settings.targeted else 1.0
        steps = np.sign(stolen.student.slopes(images, np.eye(classes)[labels]))
        pushed: Floats = np.clip(images + direction * self.settings.length * steps, 0.0, 1.0)
        return pushed
