"""The meter: the oracle of an attack, which counts rows within a budget and records queries, scores and leaks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.bench.attacks.attack import BudgetSpent
from modeltoll.bench.leak_measures import measure_all
from modeltoll.errors import ModeltollError

if TYPE_CHECKING:
    from modeltoll.bench.attacks.attack import Oracle
    from modeltoll.bench.leak_measures import Measures
    from modeltoll.bench.victims.victim import Victim
    from modeltoll.records import Floats, Progress

__all__ = ["IMAGES_KEPT", "CountedVictim", "InvalidQuery", "Meter"]

IMAGES_KEPT = 20_000  # images recorded; millions would not fit into memory

# True scores (rows, classes) and leaks (rows, measures) to the answered scores, of the same shape.
Perturbation = Callable[["Floats", "Floats"], "Floats"]


class InvalidQuery(ModeltollError):
    """Images that are not of the victim's shape, or not finite numbers in 0..1."""


class CountedVictim:
    """A victim that counts every row it scores, through the meter or not."""

    def __init__(self, victim: Victim) -> None:
        self._victim = victim
        self.identity = victim.identity
        self.rows = 0

    def scores(self, images: Floats) -> Floats:
        """As ``Victim.scores``."""
        self.rows += len(images)
        return self._victim.scores(images)


class Meter:
    """Answers an attack's queries within a budget of rows, and records images, true scores and leaks.

    The attack gets ``oracle`` only, which gives no access to the meter or the victim but its two methods.
    """

    def __init__(
        self,
        victim: Victim,
        leak_measures: Measures,
        shape: tuple[int, ...],
        budget: int,
        perturb: Perturbation,
        progress: Progress,
    ) -> None:
        """``shape`` is an image's; ``perturb`` is the defence that changes the answers; ``progress`` is called with the
        number of rows queried and the budget.
        """
        self._victim, self._measures, self._shape = victim, leak_measures, shape
        self._budget, self._perturb, self._progress = budget, perturb, progress
        self._images: list[Floats] = []  # the first IMAGES_KEPT
        self._scores: list[Floats] = []
        self._leaks: list[Floats] = []
        self.rows = 0

    @property
    def oracle(self) -> Oracle:
        """The oracle to give to an attack."""
        return _oracle(self._ask, lambda: self._budget - self.rows)

    def _ask(self, images: Floats) -> Floats:
        if len(images) > self._budget - self.rows:
            raise BudgetSpent(f"{len(images)} rows were queried, but {self._budget - self.rows} are left")
        queries = np.array(images, np.float64)
        if queries.shape[1:] != self._shape or not ((queries >= 0.0) & (queries <= 1.0)).all():
            raise InvalidQuery(f"a query must hold images of shape {self._shape} with values in 0..1")
        scores = self._victim.scores(queries)
        leaks = measure_all(self._measures, scores, queries)
        answers = self._perturb(scores, leaks)
        if self.rows < IMAGES_KEPT:  # an empty slice would keep the whole array in memory
            self._images.append(queries[: IMAGES_KEPT - self.rows])
        self.rows += len(queries)
        self._scores.append(scores)
        self._leaks.append(leaks)
        self._progress(self.rows, self._budget)
        return np.array(answers, np.float64)

    @property
    def images(self) -> Floats:
        """The first queried images in order, (at most ``IMAGES_KEPT``, ...)."""
        return np.concatenate([np.empty((0, *self._shape)), *self._images])

    @property
    def scores(self) -> Floats:
        """The victim's true scores (rows, classes) of all queries."""
        return np.concatenate(self._scores)

    @property
    def leaks(self) -> Floats:
        """The leaks (rows, measures) of all queries."""
        return np.concatenate([np.empty((0, len(self._measures))), *self._leaks])


def _oracle(ask: Callable[[Floats], Floats], left: Callable[[], int]) -> Oracle:
    """An oracle without attributes, so that an attack cannot reach the meter through it."""

    class MeteredOracle:
        __slots__ = ()

        @property
        def left(self) -> int:
            return left()

        def ask(self, images: Floats) -> Floats:
            return ask(images)

    return MeteredOracle()
