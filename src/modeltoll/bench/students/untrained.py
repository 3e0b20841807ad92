"""Students that are not trained, for runs of which only the queries are wanted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from modeltoll.errors import ModeltollError

if TYPE_CHECKING:
    import numpy as np

    from modeltoll.bench.students.student import TrainingSchedule
    from modeltoll.records import Floats

__all__ = ["UntrainedStudent", "UntrainedStudents"]


class UntrainedStudent:
    """Takes its training rows and learns nothing.

    Raises:
        ModeltollError: its predictions are asked for.
    """

    def train(self, images: Floats, targets: Floats, schedule: TrainingSchedule, rng: np.random.Generator) -> None:
        """As ``TrainableClone.train``; the rows are dropped, and ``rng`` is not used."""

    def scores(self, images: Floats) -> NoReturn:  # noqa: ARG002  nothing is computed
        """As ``TrainableClone.scores``."""
        raise _no_clone()

    def logits(self, images: Floats) -> NoReturn:  # noqa: ARG002  nothing is computed
        """As ``TrainableClone.logits``."""
        raise _no_clone()

    def input_gradients(self, images: Floats, weights: Floats) -> NoReturn:  # noqa: ARG002  nothing is computed
        """As ``TrainableClone.input_gradients``."""
        raise _no_clone()


@dataclass(frozen=True, slots=True)
class UntrainedStudents:
    """Makes untrained students, for any number of classes."""

    def student(self, rng: np.random.Generator) -> UntrainedStudent:
        """As ``StudentFactory.student``."""
        del rng
        return UntrainedStudent()


def _no_clone() -> ModeltollError:
    return ModeltollError("the attack asked its clone, but no clone is trained in this run")
