"""The protocol of extraction attacks: query an oracle within a budget of rows, train a clone on the answers.

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

__all__ = ["Attack", "AttackerResources", "BudgetSpent", "Clone", "Oracle", "RoundCallback"]


class BudgetSpent(ModeltollError):
    """A query has more rows than are left of the budget."""


class Oracle(Protocol):
    """The victim as the attacker sees it: probabilities, within a budget. It is the attacker's only access."""

    @property
    def left(self) -> int:
        """Rows left of the budget."""
        ...

    def ask(self, images: Floats) -> Floats:
        """The victim's probabilities (n, classes), float64; an attack that uses labels only takes their argmax.

        Raises:
            BudgetSpent: n is above ``left``; the query was neither answered nor counted.
        """
        ...


class Clone(Protocol):
    """A model trained to reproduce the victim's answers."""

    def scores(self, images: Floats) -> Floats:
        """Probabilities (n, classes)."""
        ...


RoundCallback = Callable[
    [Clone], None
]  # called after each round of training, so that the clone's progress can be examined


@dataclass(frozen=True, slots=True, eq=False)
class AttackerResources:
    """What the attacker has before the first query.

    ``own`` are unlabelled images of the victim's distribution that it was not trained on; ``foreign`` are natural images
    of another source, with that source's labels; ``cost`` returns the price (n,) of images before they are queried, for
    attacks that are assumed to know it.
    """

    classes: int
    own: Floats
    foreign: Images
    cost: Callable[[Floats], Floats] | None = None


class Attack(Protocol):
    """A method of choosing queries and of training a clone on the answers.

    The same oracle, resources and generator give the same queries and the same clone. An attack spends the whole
    budget, and never queries more rows than ``left``.
    """

    @property
    def name(self) -> str:
        """The name in tables."""
        ...

    def run(
        self, oracle: Oracle, resources: AttackerResources, rng: np.random.Generator, on_round: RoundCallback
    ) -> Clone:
        """Steal; the clone after the last round."""
        ...
