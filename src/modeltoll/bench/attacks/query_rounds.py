"""The way of most thieves, written once: buy some rows, train a clone, let it say which rows to buy next."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.bench.students.student import PAPER_COURSE, TrainingSchedule
from modeltoll.errors import ModeltollError

if TYPE_CHECKING:
    from modeltoll.bench.attacks.attack import Clone, Oracle, Watch
    from modeltoll.bench.students.student import StudentFactory, TrainableClone
    from modeltoll.records import Floats, Integers

__all__ = [
    "CandidatePool",
    "Pick",
    "QueriedRows",
    "RoundPlan",
    "Rounds",
    "Select",
    "Shop",
    "TooFewImages",
    "indices_of_lowest",
    "query",
    "query_in_rounds",
    "query_selected",
]


class TooFewImages(ModeltollError):
    """A thief has fewer images than his budget has rows; nothing was asked."""

    def __init__(self, need: int, have: int) -> None:
        super().__init__(f"the budget needs {need} images, but there are {have}; give more, or ask less")


@dataclass(frozen=True, slots=True)
class Rounds:
    """How a budget is spent: ``step`` rows a round, fewer where that would make less than ``fewest`` rounds.

    A new clone takes the whole ``course`` after each round. ``scan`` is how many images it looks at before it chooses,
    a random part of those that are left; all of them where it is None.
    """

    step: int = 1000
    fewest: int = 4
    course: TrainingSchedule = PAPER_COURSE
    scan: int | None = None

    def rows(self, budget: int) -> int:
        """Rows of each round but the last."""
        return max(1, min(self.step, math.ceil(budget / self.fewest)))


PAPER = Rounds()  # Dziedzic et al. 2022


@dataclass(frozen=True, slots=True, eq=False)
class QueriedRows:
    """What was bought so far, and the clone that learnt it."""

    images: Floats
    targets: Floats
    student: TrainableClone


Pick = Callable[[QueriedRows | None, int], "Floats"]  # the next images to ask for: at most so many, at least one
Shop = Callable[
    [QueriedRows | None, int], "tuple[Floats, Floats]"
]  # buys so: the images, and what they shall be taught as
Select = Callable[[QueriedRows, "Floats", int], "Integers"]  # of candidates (n, ...), so many, by their places


@dataclass(frozen=True, slots=True)
class RoundPlan:
    """Whose students learn from what; ``labels_only`` throws away all but the most probable class."""

    student_factory: StudentFactory
    rounds: Rounds
    labels_only: bool = True


class CandidatePool:
    """Images that were not asked for yet.

    Raises:
        TooFewImages: there are fewer than ``need``.
    """

    def __init__(self, images: Floats, need: int, rng: np.random.Generator, scan: int | None = None) -> None:
        if len(images) < need:
            raise TooFewImages(need, len(images))
        self._images = images
        self._left = rng.permutation(len(images))
        self._rng = rng
        self._scan = scan

    def draw(self, count: int) -> Floats:
        """So many at random, or all that are left."""
        drawn, self._left = self._left[:count], self._left[count:]
        chosen: Floats = self._images[drawn]
        return chosen

    def chosen_by(self, select: Select, at_random: int = 0) -> Pick:
        """A clone's choice; the first round, and those that begin before ``at_random`` rows are bought, are random."""

        def pick(stolen: QueriedRows | None, count: int) -> Floats:
            if stolen is None or len(stolen.images) < at_random:
                return self.draw(count)
            return self._choose(lambda candidates: select(stolen, candidates, count), count)

        return pick

    def _choose(self, select: Callable[[Floats], Integers], count: int) -> Floats:
        self._left = self._rng.permutation(self._left)
        seen = self._left if self._scan is None else self._left[: max(self._scan, count)]
        places = select(self._images[seen])
        chosen: Floats = self._images[seen[places]]
        self._left = np.concatenate([np.delete(seen, places), self._left[len(seen) :]])
        return chosen


def indices_of_lowest(values: Floats, count: int) -> Integers:
    """The places of the ``count`` lowest values, lowest first."""
    return np.argsort(values, kind="stable")[:count]


def query(oracle: Oracle, images: Floats, *, labels_only: bool) -> Floats:
    """What the oracle says of images, (n, classes): its probabilities, or one for the most probable class."""
    told = oracle.ask(images)
    return np.eye(told.shape[1])[told.argmax(axis=1)] if labels_only else told


def query_in_rounds(oracle: Oracle, pick: Pick, plan: RoundPlan, rng: np.random.Generator, watch: Watch) -> Clone:
    """Spend the whole budget on what ``pick`` says, and learn after each round."""

    def shop(stolen: QueriedRows | None, count: int) -> tuple[Floats, Floats]:
        images = pick(stolen, count)
        return images, query(oracle, images, labels_only=plan.labels_only)

    return query_selected(oracle, shop, plan, rng, watch)


def query_selected(oracle: Oracle, shop: Shop, plan: RoundPlan, rng: np.random.Generator, watch: Watch) -> Clone:
    """Spend the whole budget by ``shop``, and learn after each round.

    Returns the clone after the last round: untrained where the budget is nothing.
    """
    step = plan.rounds.rows(oracle.left)
    stolen: QueriedRows | None = None
    while oracle.left:
        images, targets = shop(stolen, min(step, oracle.left))
        if stolen is not None:
            images, targets = np.concatenate([stolen.images, images]), np.concatenate([stolen.targets, targets])
        student = plan.student_factory.student(rng)
        student.learn(images, targets, plan.rounds.course, rng)
        watch(student)
        stolen = QueriedRows(images, targets, student)
    return plan.student_factory.student(rng) if stolen is None else stolen.student
