"""What a thief trains: a student, and the school that such students come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np

    from modeltoll.records import Floats

__all__ = ["PAPER_COURSE", "Course", "School", "Student"]


@dataclass(frozen=True, slots=True)
class Course:
    """How long and how fast a student learns: stochastic gradient descent with momentum, on batches of rows."""

    epochs: int = 50
    batch: int = 64
    rate: float = 0.01
    momentum: float = 0.9


PAPER_COURSE = Course()  # Dziedzic et al. 2022, for all attacks that do not say otherwise


class Student(Protocol):
    """A clone that can learn, and shows how its opinion changes with an image."""

    def scores(self, images: Floats) -> Floats:
        """Probabilities (n, classes), float64; each row sums to 1."""
        ...

    def logits(self, images: Floats) -> Floats:
        """What the probabilities are made of, (n, classes), float64, in the same order of classes."""
        ...

    def slopes(self, images: Floats, weights: Floats) -> Floats:
        """Gradient, in the image, of each image's logits weighted by ``weights`` (n, classes) and added; shape of images."""
        ...

    def learn(self, images: Floats, targets: Floats, course: Course, rng: np.random.Generator) -> None:
        """Go on learning, from images and the probabilities (n, classes) that they shall have."""
        ...


class School(Protocol):
    """Where students come from."""

    def student(self, rng: np.random.Generator) -> Student:
        """One that has learnt nothing yet."""
        ...
