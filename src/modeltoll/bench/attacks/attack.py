"""What every thief is: he asks an oracle, within a budget of rows, and makes a clone of what he is told.

Images are arrays (n, height, width) or (n, height, width, 3), float64 in 0..1, of the victim's own size and channels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from modeltoll.errors import ModeltollError

if TYPE_CHECKING:
    import numpy as np

    from modeltoll.bench.datasets import Images
    from modeltoll.records import Floats

__all__ = ["Attack", "AttackerResources", "BudgetSpent", "Clone", "Oracle", "Watch"]


class BudgetSpent(ModeltollError):
    """More rows were asked for than are left."""


class Oracle(Protocol):
    """The victim as a thief sees it. It counts, and nobody gets past it."""

    @property
    def left(self) -> int:
        """Rows that may still be asked."""
        ...

    def ask(self, images: Floats) -> Floats:
        """The victim's probabilities (n, classes), float64; a thief who is told labels alone takes their argmax.

        Raises:
            BudgetSpent: n is above ``left``; nothing was asked and nothing counted.
        """
        ...


class Clone(Protocol):
    """A model that answers as the victim does, more or less."""

    def scores(self, images: Floats) -> Floats:
        """Probabilities (n, classes)."""
        ...


Watch = Callable[[Clone], None]  # called after each round of training, so that the clone's progress can be examined


@dataclass(frozen=True, slots=True, eq=False)
class AttackerResources:
    """What a thief has before he asks.

    ``own`` are images of the victim's kind that it was not trained on, without labels; ``foreign`` are natural images
    of another source, with labels of their own; ``cost`` is the leak (n,) of images, known in advance, for thieves who
    are granted a perfect guess.
    """

    classes: int
    own: Floats
    foreign: Images
    cost: Callable[[Floats], Floats] | None = None


class Attack(Protocol):
    """A way to choose queries and to learn from the answers.

    The same oracle, means and generator give the same queries and the same clone. An attack spends the whole budget,
    and never asks for a row more than ``left``.
    """

    @property
    def name(self) -> str:
        """As the tables name it."""
        ...

    def run(self, oracle: Oracle, resources: AttackerResources, rng: np.random.Generator, watch: Watch) -> Clone:
        """Steal; the clone after the last round."""
        ...
