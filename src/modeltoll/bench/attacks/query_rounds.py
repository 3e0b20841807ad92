"""The loop that most attacks share: query a round of rows, train a new clone on all rows, choose the next round."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.bench.students.student import PAPER_SCHEDULE, TrainingSchedule
from modeltoll.errors import ModeltollError

if TYPE_CHECKING:
    from modeltoll.bench.attacks.attack import Clone, Oracle, RoundCallback
    from modeltoll.bench.students.student import StudentFactory, TrainableClone
    from modeltoll.records import Floats, Integers

__all__ = [
    "CandidatePool",
    "CandidateSelector",
    "NextImages",
    "QueriedRows",
    "QueryStep",
    "RoundPlan",
    "Rounds",
    "TooFewImages",
    "indices_of_lowest",
    "query",
    "query_in_rounds",
    "run_rounds",
]


class TooFewImages(ModeltollError):
    """The attack has fewer images than its budget has rows; nothing was queried."""

    def __init__(self, need: int, have: int) -> None:
        super().__init__(f"the budget needs {need} images, but there are {have}; add images or lower the budget")


@dataclass(frozen=True, slots=True)
class Rounds:
    """How a budget is spent: ``round_rows`` rows per round, fewer if there would be less than ``min_rounds`` rounds.

    After each round a new clone is trained with ``schedule``. ``scan`` is the number of unused images, drawn at random, among
    which the next round is chosen; None: all of them. ``doubling``: each round after the first queries as many rows as all
    before it.
    """

    round_rows: int = 1000
    min_rounds: int = 4
    schedule: TrainingSchedule = PAPER_SCHEDULE
    scan: int | None = None
    doubling: bool = False

    def round_size(self, budget: int, queried: int = 0) -> int:
        """The number of rows of the next round, unless fewer are left of the budget; 1 or more."""
        first = max(1, min(self.round_rows, math.ceil(budget / self.min_rounds)))
        return max(first, queried) if self.doubling else first


PAPER_ROUNDS = Rounds()  # Dziedzic et al. 2022


@dataclass(frozen=True, slots=True, eq=False)
class QueriedRows:
    """All rows queried so far, their training targets (rows, classes), and the clone trained on them."""

    images: Floats
    targets: Floats
    student: TrainableClone


# The images of the next round: at least one, at most the given number.
NextImages = Callable[[QueriedRows | None, int], "Floats"]
# Queries at most the given number of rows, at least one: the images and their training targets.
QueryStep = Callable[[QueriedRows | None, int], "tuple[Floats, Floats]"]
# The indices of the given number of candidates (n, ...).
CandidateSelector = Callable[[QueriedRows, "Floats", int], "Integers"]


@dataclass(frozen=True, slots=True)
class RoundPlan:
    """The students and the rounds of an attack; ``labels_only``: the targets are one-hot labels, not probabilities."""

    student_factory: StudentFactory
    rounds: Rounds
    labels_only: bool = True


class CandidatePool:
    """The images that were not queried yet.

    Raises:
        TooFewImages: there are fewer than ``need``.
    """

    def __init__(self, images: Floats, need: int, rng: np.random.Generator, scan: int | None = None) -> None:
        if len(images) < need:
            raise TooFewImages(need, len(images))
        self._images = images
        self._unused = rng.permutation(len(images))
        self._rng = rng
        self._scan = scan

    def draw(self, count: int) -> Floats:
        """``count`` unused images at random, or all that are left."""
        indices, self._unused = self._unused[:count], self._unused[count:]
        chosen: Floats = self._images[indices]
        return chosen

    def chosen_by(self, select: CandidateSelector, at_random: int = 0) -> NextImages:
        """Rounds chosen by ``select``; the first, and those that begin before ``at_random`` rows, are random."""

        def next_images(queried: QueriedRows | None, count: int) -> Floats:
            if queried is None or len(queried.images) < at_random:
                return self.draw(count)
            return self._choose(lambda candidates: select(queried, candidates, count), count)

        return next_images

    def _choose(self, select: Callable[[Floats], Integers], count: int) -> Floats:
        self._unused = self._rng.permutation(self._unused)
        scanned = self._unused if self._scan is None else self._unused[: max(self._scan, count)]
        selected = select(self._images[scanned])
        chosen: Floats = self._images[scanned[selected]]
        self._unused = np.concatenate([np.delete(scanned, selected), self._unused[len(scanned) :]])
        return chosen


def indices_of_lowest(values: Floats, count: int) -> Integers:
    """The indices of the ``count`` lowest values, lowest first."""
    return np.argsort(values, kind="stable")[:count]


def query(oracle: Oracle, images: Floats, *, labels_only: bool) -> Floats:
    """The oracle's answers (n, classes): its probabilities, or the one-hot vectors of the most probable classes."""
    answers = oracle.ask(images)
    return np.eye(answers.shape[1])[answers.argmax(axis=1)] if labels_only else answers


def query_in_rounds(
    oracle: Oracle, next_images: NextImages, plan: RoundPlan, rng: np.random.Generator, on_round: RoundCallback
) -> Clone:
    """Spend the whole budget on the images that ``next_images`` returns; train a new clone after each round."""

    def query_step(queried: QueriedRows | None, count: int) -> tuple[Floats, Floats]:
        images = next_images(queried, count)
        return images, query(oracle, images, labels_only=plan.labels_only)

    return run_rounds(oracle, query_step, plan, rng, on_round)


def run_rounds(
    oracle: Oracle, query_step: QueryStep, plan: RoundPlan, rng: np.random.Generator, on_round: RoundCallback
) -> Clone:
    """Spend the whole budget by ``query_step``; train a new clone on all rows after each round and report it.

    Returns the clone of the last round; an untrained one if the budget is 0.
    """
    budget = oracle.left
    queried: QueriedRows | None = None
    while oracle.left:
        size = plan.rounds.round_size(budget, budget - oracle.left)
        images, targets = query_step(queried, min(size, oracle.left))
        if queried is not None:
            images, targets = np.concatenate([queried.images, images]), np.concatenate([queried.targets, targets])
        student = plan.student_factory.student(rng)
        student.train(images, targets, plan.rounds.schedule, rng)
        on_round(student)
        queried = QueriedRows(images, targets, student)
    return plan.student_factory.student(rng) if queried is None else queried.student
