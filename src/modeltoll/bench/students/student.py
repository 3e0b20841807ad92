"""What a thief trains: a student, and the school that such students come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np

    from modeltoll.records import Floats

__all__ = ["PAPER_COURSE", "MixMatchSchedule", "StudentFactory", "TrainableClone", "TrainingSchedule"]


@dataclass(frozen=True, slots=True)
class TrainingSchedule:
    """How long and how fast a student learns: stochastic gradient descent with momentum, on batches of rows.

    ``half``: a network's layers compute in bfloat16 where the machine has instructions for it, else in float32.
    """

    epochs: int = 50
    batch: int = 64
    rate: float = 0.01
    momentum: float = 0.9
    half: bool = False


@dataclass(frozen=True, slots=True)
class MixMatchSchedule:
    """How a student learns from images with labels and others without; Berthelot et al. 2019, *MixMatch*, section 4.

    Each of ``epochs * steps`` steps of Adam sees ``batch`` images with labels, and as many without, twice. Guesses are
    sharpened by ``temperature``; pairs are mixed by a Beta(``alpha``, ``alpha``); ``weight`` of the guesses' loss is
    reached after all epochs, in a line from 0; the clone is the running ``average`` of the weights. Images are moved by
    up to ``shift`` pixels; colours are mirrored too. ``half``: as in a ``TrainingSchedule``.
    """

    epochs: int = 128
    steps: int = 1024
    batch: int = 64
    rate: float = 0.002
    decay: float = 0.02
    alpha: float = 0.75
    weight: float = 75.0
    temperature: float = 0.5
    average: float = 0.999
    shift: int = 4
    half: bool = False


PAPER_COURSE = TrainingSchedule()  # Dziedzic et al. 2022, for all attacks that do not say otherwise


class TrainableClone(Protocol):
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

    def learn(self, images: Floats, targets: Floats, course: TrainingSchedule, rng: np.random.Generator) -> None:
        """Go on learning, from images and the probabilities (n, classes) that they shall have."""
        ...


class StudentFactory(Protocol):
    """Where students come from."""

    def student(self, rng: np.random.Generator) -> TrainableClone:
        """One that has learnt nothing yet."""
        ...
