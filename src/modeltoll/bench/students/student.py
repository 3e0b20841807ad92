"""The protocol of students, the models that attacks train; their factories and training schedules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np

    from modeltoll.records import Floats

__all__ = [
    "PAPER_SCHEDULE",
    "FreeMatchSchedule",
    "MixMatchSchedule",
    "StudentFactory",
    "TrainableClone",
    "TrainingSchedule",
]


@dataclass(frozen=True, slots=True)
class TrainingSchedule:
    """Training by stochastic gradient descent with momentum: epochs, rows per batch, learning rate.

    ``half``: layers compute in bfloat16 if the machine has instructions for it, else in float32.
    """

    epochs: int = 50
    batch: int = 64
    rate: float = 0.01
    momentum: float = 0.9
    half: bool = False


@dataclass(frozen=True, slots=True)
class MixMatchSchedule:
    """Semi-supervised training; Berthelot et al. 2019, *MixMatch*, section 4.

    Each of ``epochs * steps`` steps of Adam uses ``batch`` labelled images, and two views of as many unlabelled ones.
    Predictions are sharpened by ``temperature``; pairs are mixed by a Beta(``alpha``, ``alpha``). The weight of the
    unlabelled loss rises linearly from 0 to ``weight``. The clone is the running average of the weights with decay
    ``average``. Images are shifted by up to ``shift`` pixels; colour images are also mirrored. ``half``: as in
    ``TrainingSchedule``.
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


@dataclass(frozen=True, slots=True)
class FreeMatchSchedule:
    """Semi-supervised training; Wang et al. 2023, *FreeMatch*, section 4 and appendix.

    Each of ``epochs * steps`` steps uses ``batch`` labelled images and ``ratio`` times as many unlabelled ones, in a weak
    and a strong view. ``threshold_decay`` is that of the running means of which the threshold is made, which is at least
    ``threshold``, that of Sohn et al. 2020, *FixMatch*. The clone is the running average of the weights with decay
    ``average``. Weak views are shifted by up to ``shift`` pixels; colour images are also mirrored. ``half``: as in
    ``TrainingSchedule``.
    """

    epochs: int = 128
    steps: int = 1024
    batch: int = 64
    ratio: int = 7
    rate: float = 0.03
    decay: float = 5e-4
    threshold_decay: float = 0.999
    threshold: float = 0.95
    average: float = 0.999
    shift: int = 4
    half: bool = False


FREEMATCH_SCHEDULE = FreeMatchSchedule()
PAPER_SCHEDULE = TrainingSchedule()  # Dziedzic et al. 2022; attacks without another schedule use it


class TrainableClone(Protocol):
    """A clone that can be trained and gives gradients with respect to its input."""

    def scores(self, images: Floats) -> Floats:
        """Probabilities (n, classes), float64; each row sums to 1."""
        ...

    def logits(self, images: Floats) -> Floats:
        """The values (n, classes), float64, from which the probabilities are computed, in the same order of classes."""
        ...

    def input_gradients(self, images: Floats, weights: Floats) -> Floats:
        """The gradient with respect to each image of its logits' sum weighted by ``weights`` (n, classes); images' shape."""
        ...

    def train(self, images: Floats, targets: Floats, schedule: TrainingSchedule, rng: np.random.Generator) -> None:
        """Continue training on images and their target probabilities (n, classes)."""
        ...


class StudentFactory(Protocol):
    """Makes students."""

    def student(self, rng: np.random.Generator) -> TrainableClone:
        """An untrained student."""
        ...
