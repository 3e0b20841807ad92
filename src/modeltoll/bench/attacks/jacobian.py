"""Jacobian-based data set augmentation: own images moved along the sign of the clone's input gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.bench.attacks.query_rounds import CandidatePool, QueriedRows, RoundPlan, Rounds, query_in_rounds
from modeltoll.bench.students.student import TrainingSchedule

if TYPE_CHECKING:
    from modeltoll.bench.attacks.attack import AttackerResources, Clone, Oracle, RoundCallback
    from modeltoll.bench.students.student import StudentFactory
    from modeltoll.records import Floats

__all__ = ["JACOBIAN_PARAMS", "JACOBIAN_TR_PARAMS", "Jacobian", "JacobianParams"]


_ROUNDS = Rounds(schedule=TrainingSchedule(epochs=20))


@dataclass(frozen=True, slots=True)
class JacobianParams:
    """Settings: ``seed`` own images in the first round, then steps of ``length`` in every pixel.

    ``targeted``: down the logit of a random other class (Juuti et al. 2019, *PRADA*) instead of up the label's logit.
    A round at most doubles the number of images.
    """

    rounds: Rounds = _ROUNDS
    seed: int = 150
    length: float = 0.1
    targeted: bool = False


JACOBIAN_PARAMS = JacobianParams()
JACOBIAN_TR_PARAMS = JacobianParams(targeted=True)


@dataclass(frozen=True, slots=True)
class Jacobian:
    """Augment a seed of own images by steps along the clone's gradients and query the new images.

    Papernot et al. 2017, *Practical Black-Box Attacks*, with the settings of Dziedzic et al. 2022.
    """

    student_factory: StudentFactory
    settings: JacobianParams = JACOBIAN_PARAMS
    name: str = "Jacobian"

    def run(
        self, oracle: Oracle, resources: AttackerResources, rng: np.random.Generator, on_round: RoundCallback
    ) -> Clone:
        """As ``Attack.run``."""
        pool = CandidatePool(resources.own, min(self.settings.seed, oracle.left), rng)

        def next_images(queried: QueriedRows | None, count: int) -> Floats:
            if queried is None:
                return pool.draw(min(self.settings.seed, count))
            return self._perturbed(queried, count, rng)

        return query_in_rounds(
            oracle, next_images, RoundPlan(self.student_factory, self.settings.rounds), rng, on_round
        )

    def _perturbed(self, queried: QueriedRows, count: int, rng: np.random.Generator) -> Floats:
        chosen = rng.permutation(len(queried.images))[:count]
        images, labels = queried.images[chosen], queried.targets[chosen].argmax(axis=1)
        classes = queried.targets.shape[1]
        if self.settings.targeted:
            labels = (labels + rng.integers(1, classes, len(labels))) % classes
        direction = -1.0 if self.settings.targeted else 1.0
        steps = np.sign(queried.student.input_gradients(images, np.eye(classes)[labels]))
        perturbed: Floats = np.clip(images + direction * self.settings.length * steps, 0.0, 1.0)
        return perturbed
