"""The oracle that a thief asks: it counts, remembers what was asked, and lets nobody past it."""

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

__all__ = ["KEPT", "CountedVictim", "InvalidQuery", "Meter"]

KEPT = 20_000  # images that are remembered; a theft of millions would not fit into memory

Answering = Callable[["Floats"], "Floats"]  # true scores (rows, classes) to those that are told, of one shape


class InvalidQuery(ModeltollError):
    """Images that are not of the victim's shape, or not finite numbers in 0..1."""


class CountedVictim:
    """A victim that counts every row it is asked for, by whomever."""

    def __init__(self, victim: Victim) -> None:
        self._victim = victim
        self.identity = victim.identity
        self.rows = 0

    def scores(self, images: Floats) -> Floats:
        """As the victim says."""
        self.rows += len(images)
        return self._victim.scores(images)


class Meter:
    """Asks the victim on a thief's behalf, within a budget of rows, and remembers images, true scores and leaks.

    What the thief holds is ``oracle``, which has no way back to the meter or the victim but its two methods.
    """

    def __init__(
        self,
        victim: Victim,
        leak_measures: Measures,
        shape: tuple[int, ...],
        budget: int,
        answering: Answering,
        progress: Progress,
    ) -> None:
        """``shape`` is an image's; ``answering`` is what a defence makes of true scores before they are told;
        ``progress`` hears how much of the budget is spent.
        """
        self._victim, self._gauges, self._shape = victim, leak_measures, shape
        self._budget, self._answering, self._progress = budget, answering, progress
        self._images: list[Floats] = []  # the first KEPT
        self._scores: list[Floats] = []
        self._leaks: list[Floats] = []
        self.rows = 0

    @property
    def oracle(self) -> Oracle:
        """The thief's end."""
        return _oracle(self._ask, lambda: self._budget - self.rows)

    def _ask(self, images: Floats) -> Floats:
        if len(images) > self._budget - self.rows:
            raise BudgetSpent(f"{len(images)} rows were asked for, and {self._budget - self.rows} are left")
        asked = np.array(images, np.float64)
        if asked.shape[1:] != self._shape or not ((asked >= 0.0) & (asked <= 1.0)).all():
            raise InvalidQuery(f"a query must hold images of {self._shape}, numbers in 0..1")
        scores = self._victim.scores(asked)
        leaks = measure_all(self._gauges, scores, asked)
        told = self._answering(scores)
        if self.rows < KEPT:  # an empty slice would keep all that it was cut from
            self._images.append(asked[: KEPT - self.rows])
        self.rows += len(asked)
        self._scores.append(scores)
        self._leaks.append(leaks)
        self._progress(self.rows, self._budget)
        return np.array(told, np.float64)

    @property
    def images(self) -> Floats:
        """The first images that were asked about, in order, (at most KEPT, ...)."""
        return np.concatenate([np.empty((0, *self._shape)), *self._images])

    @property
    def scores(self) -> Floats:
        """The victim's true scores of them, (rows, classes)."""
        return np.concatenate(self._scores)

    @property
    def leaks(self) -> Floats:
        """Their leaks, (rows, measures)."""
        return np.concatenate([np.empty((0, len(self._gauges))), *self._leaks])


def _oracle(ask: Callable[[Floats], Floats], left: Callable[[], int]) -> Oracle:
    """An oracle without attributes: it holds nothing that could be taken from it."""

    class Window:
        __slots__ = ()

        @property
        def left(self) -> int:
            return left()

        def ask(self, images: Floats) -> Floats:
            return ask(images)

    return Window()
