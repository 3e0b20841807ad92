"""DeepFool: own images nearest to the clone's border, asked as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from modeltoll.bench.attacks.attack import AttackerResources, Clone, Oracle, Watch
    from modeltoll.bench.students.student import StudentFactory, TrainableClone
    from modeltoll.records import Floats, Integers

__all__ = ["BORDER", "DeepFool", "DeepFoolParams", "distances"]

_BEYOND = 1e-4  # added to each step, so that it does not end on the border itself


@dataclass(frozen=True, slots=True)
class DeepFoolParams:
    """Settings: steps at most, how far beyond the border they go, and how many rival classes are tried: None for all."""

    rounds: Rounds = PAPER
    steps: int = 20
    overshoot: float = 0.02
    rivals: int | None = None


BORDER = DeepFoolParams()


def distances(student: TrainableClone, images: Floats, border: DeepFoolParams) -> Floats:
    """The L2 norm (n,) of the least push that DeepFool finds to change the student's mind about each image.

    Moosavi-Dezfooli et al. 2016, algorithm 2. Where ``border.steps`` do not suffice: how far they went.
    """
    logits = student.logits(images)
    order = np.argsort(-logits, axis=1, kind="stable")
    label, rivals = order[:, 0], order[:, 1 : None if border.rivals is None else 1 + border.rivals]
    push = np.zeros_like(images)
    open_ = np.arange(len(images))
    for _ in range(border.steps):
        here = images[open_] + (1.0 + border.overshoot) * push[open_]
        logits = student.logits(here)
        stays = logits.argmax(axis=1) == label[open_]
        open_, here, logits = open_[stays], here[stays], logits[stays]
        if not len(open_):
            break
        push[open_] += _least_step(student, here, logits, np.column_stack([label[open_], rivals[open_]]))
    norms: Floats = (1.0 + border.overshoot) * np.sqrt(np.square(push.reshape(len(images), -1)).sum(axis=1))
    return norms


def _least_step(student: TrainableClone, images: Floats, logits: Floats, classes: Integers) -> Floats:
    """The step to the nearest border between the first of each image's ``classes`` (n, k) and the others."""
    count = len(images)
    one, rows = np.eye(logits.shape[1]), np.arange(count)
    least, steps = np.full(count, np.inf), np.zeros((count, images[0].size))
    for rival in classes[:, 1:].T:
        slope = student.slopes(images, one[rival] - one[classes[:, 0]]).reshape(count, -1)
        behind = np.abs(logits[rows, rival] - logits[rows, classes[:, 0]]) + _BEYOND
        norm = np.sqrt(np.square(slope).sum(axis=1)) + 1e-12
        nearer = behind / norm < least
        least[nearer] = (behind / norm)[nearer]
        steps[nearer] = ((behind / norm**2)[:, None] * slope)[nearer]
    return steps.reshape(images.shape)


@dataclass(frozen=True, slots=True)
class DeepFool:
    """The thief; Ducoffe and Precioso 2018, *Adversarial Active Learning*."""

    student_factory: StudentFactory
    settings: DeepFoolParams = BORDER
    name: str = "DeepFool"

    def run(self, oracle: Oracle, resources: AttackerResources, rng: np.random.Generator, watch: Watch) -> Clone:
        """Buy what the least push would change the clone's mind about."""

        def nearest(stolen: QueriedRows, candidates: Floats, count: int) -> Integers:
            return indices_of_lowest(distances(stolen.student, candidates, self.settings), count)

        pool = CandidatePool(resources.own, oracle.left, rng, self.settings.rounds.scan)
        return query_in_rounds(
            oracle, pool.chosen_by(nearest), RoundPlan(self.student_factory, self.settings.rounds), rng, watch
        )
