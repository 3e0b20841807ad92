"""DeepFool: the own images nearest to the clone's decision boundary, queried unchanged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from modeltoll.bench.attacks.attack import AttackerResources, Clone, Oracle, RoundCallback
    from modeltoll.bench.students.student import StudentFactory, TrainableClone
    from modeltoll.records import Floats, Integers

__all__ = ["DEEPFOOL_PARAMS", "DeepFool", "DeepFoolParams", "boundary_distances"]

_MARGIN = 1e-4  # added to each logit difference, so that a step does not end on the boundary itself


@dataclass(frozen=True, slots=True)
class DeepFoolParams:
    """Settings: the maximum of steps, the overshoot beyond the boundary, and how many rival classes are tried (None: all)."""

    rounds: Rounds = PAPER_ROUNDS
    steps: int = 20
    overshoot: float = 0.02
    rivals: int | None = None


DEEPFOOL_PARAMS = DeepFoolParams()


def boundary_distances(student: TrainableClone, images: Floats, params: DeepFoolParams) -> Floats:
    """The L2 norm (n,) of the perturbation that DeepFool finds to change the student's label of each image.

    Moosavi-Dezfooli et al. 2016, algorithm 2. Where ``params.steps`` do not suffice: the norm after the last step.
    """
    logits = student.logits(images)
    order = np.argsort(-logits, axis=1, kind="stable")
    label, rivals = order[:, 0], order[:, 1 : None if params.rivals is None else 1 + params.rivals]
    perturbation = np.zeros_like(images)
    active = np.arange(len(images))
    for _ in range(params.steps):
        perturbed = images[active] + (1.0 + params.overshoot) * perturbation[active]
        logits = student.logits(perturbed)
        unchanged = logits.argmax(axis=1) == label[active]
        active, perturbed, logits = active[unchanged], perturbed[unchanged], logits[unchanged]
        if not len(active):
            break
        classes = np.column_stack([label[active], rivals[active]])
        perturbation[active] += _step_to_boundary(student, perturbed, logits, classes)
    norms: Floats = (1.0 + params.overshoot) * np.sqrt(np.square(perturbation.reshape(len(images), -1)).sum(axis=1))
    return norms


def _step_to_boundary(student: TrainableClone, images: Floats, logits: Floats, classes: Integers) -> Floats:
    """The step (n, ...) to the nearest boundary between the first of each image's ``classes`` (n, k) and the others."""
    count = len(images)
    one_hot, rows = np.eye(logits.shape[1]), np.arange(count)
    nearest, steps = np.full(count, np.inf), np.zeros((count, images[0].size))
    for rival in classes[:, 1:].T:
        gradient = student.input_gradients(images, one_hot[rival] - one_hot[classes[:, 0]]).reshape(count, -1)
        difference = np.abs(logits[rows, rival] - logits[rows, classes[:, 0]]) + _MARGIN
        norm = np.sqrt(np.square(gradient).sum(axis=1)) + 1e-12
        closer = difference / norm < nearest
        nearest[closer] = (difference / norm)[closer]
        steps[closer] = ((difference / norm**2)[:, None] * gradient)[closer]
    return steps.reshape(images.shape)


@dataclass(frozen=True, slots=True)
class DeepFool:
    """Query the own images with the smallest perturbation that changes the clone's label.

    Ducoffe and Precioso 2018, *Adversarial Active Learning*.
    """

    student_factory: StudentFactory
    settings: DeepFoolParams = DEEPFOOL_PARAMS
    name: str = "DeepFool"

    def run(
        self, oracle: Oracle, resources: AttackerResources, rng: np.random.Generator, on_round: RoundCallback
    ) -> Clone:
        """As ``Attack.run``."""

        def nearest(queried: QueriedRows, candidates: Floats, count: int) -> Integers:
            return indices_of_lowest(boundary_distances(queried.student, candidates, self.settings), count)

        pool = CandidatePool(resources.own, oracle.left, rng, self.settings.rounds.scan)
        return query_in_rounds(
            oracle, pool.chosen_by(nearest), RoundPlan(self.student_factory, self.settings.rounds), rng, on_round
        )
