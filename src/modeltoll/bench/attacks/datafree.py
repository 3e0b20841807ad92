"""DataFree: queries from a generator that is trained to maximise the disagreement of clone and victim."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.bench.attacks.query_rounds import query
from modeltoll.bench.attacks.require_torch import require_network_factory
from modeltoll.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from modeltoll.bench.attacks.attack import AttackerResources, Clone, Oracle, RoundCallback
    from modeltoll.bench.students.generator import CloneNetwork, GeneratorTraining
    from modeltoll.bench.students.student import StudentFactory, TrainableClone
    from modeltoll.records import Floats

__all__ = ["DATAFREE_PARAMS", "DataFree", "DataFreeParams", "as_images", "estimate_gradients", "pseudo_logits"]

_MIN_PROBABILITY = 1e-12


@dataclass(frozen=True, slots=True)
class DataFreeParams:
    """Settings; Truong et al. 2021, section 4, and their published defaults.

    Each step of the generator is followed by ``student_steps`` steps of the clone, all on ``batch`` images. The
    generator's gradients are forward differences along ``directions`` random directions with step ``difference``. Both
    learning rates are multiplied by ``rate_decay`` at each of the ``milestones``, which are shares of the budget.
    ``noise`` and ``width`` are dimensions of the generator; ``rounds`` is the number of reports of the clone.
    """

    batch: int = 256
    student_steps: int = 5
    directions: int = 1
    difference: float = 1e-3
    noise: int = 256
    width: int = 128
    student_rate: float = 0.1
    momentum: float = 0.9
    decay: float = 5e-4
    generator_rate: float = 1e-4
    milestones: tuple[float, ...] = (0.1, 0.3, 0.5)
    rate_decay: float = 0.3
    rounds: int = 10


DATAFREE_PARAMS = DataFreeParams()


def as_images(raw: Floats) -> Floats:
    """Unbounded values as pixels in 0..1, of the same shape."""
    pixels: Floats = 0.5 * (np.tanh(raw) + 1.0)
    return pixels


def pseudo_logits(scores: Floats) -> Floats:
    """Logits (n, classes) that give these probabilities (n, classes): the logarithms, less their mean."""
    logs = np.log(np.maximum(scores, _MIN_PROBABILITY))
    centred: Floats = logs - logs.mean(axis=1, keepdims=True)
    return centred


def estimate_gradients(loss: Callable[[Floats], Floats], raw: Floats, directions: Floats, difference: float) -> Floats:
    """Forward-difference estimates (n, ...) of the gradient of ``loss``, which maps raw images (m, ...) to (m,).

    ``raw`` are images (n, ...); ``directions`` (k, n, ...) have unit length. ``loss`` is called once, on the images and
    on each step along the directions.
    """
    points = np.concatenate([raw[None], raw + difference * directions])
    losses = loss(points.reshape(-1, *raw.shape[1:])).reshape(len(points), len(raw))
    rises = ((losses[1:] - losses[0]) / difference).reshape(*directions.shape[:2], *[1] * (raw.ndim - 1))
    gradients: Floats = raw[0].size * (rises * directions).mean(axis=0)
    return gradients


@dataclass(frozen=True, slots=True)
class DataFree:
    """Query images of a generator, which is trained by zeroth-order gradients; no data are needed.

    Truong et al. 2021, *Data-Free Model Extraction*.
    """

    student_factory: StudentFactory
    settings: DataFreeParams = DATAFREE_PARAMS
    name: str = "DataFree"

    def run(
        self, oracle: Oracle, resources: AttackerResources, rng: np.random.Generator, on_round: RoundCallback
    ) -> Clone:
        """As ``Attack.run``; of the resources only the shape of an image is used.

        Raises:
            SettingsError: the students are not networks, or the images are not square with a side divisible by 4.
        """
        clone_network, generator_training = self._networks(resources.own.shape[1:], rng)
        budget, reported = oracle.left, 0
        while oracle.left:
            done = 1.0 - oracle.left / budget
            rate_share = self.settings.rate_decay ** sum(done >= milestone for milestone in self.settings.milestones)
            self._train_generator(oracle, generator_training, clone_network.student, rng, rate_share)
            for _ in range(self.settings.student_steps):
                if count := min(self.settings.batch, oracle.left):
                    images = as_images(generator_training.raw(count, for_training=False))
                    logits = pseudo_logits(query(oracle, images, labels_only=False))
                    clone_network.train(images, logits, rate_share)
            if (due := int(self.settings.rounds * (1.0 - oracle.left / budget))) > reported:
                reported = due
                on_round(clone_network.student)
        return clone_network.student

    def _networks(self, shape: tuple[int, ...], rng: np.random.Generator) -> tuple[CloneNetwork, GeneratorTraining]:
        settings, student_factory = self.settings, require_network_factory(self.student_factory)
        if shape[0] != shape[1] or shape[0] % 4:
            raise SettingsError([f"attacks: DataFree needs square images with a side divisible by 4, not {shape}"])
        from modeltoll.bench.students.generator import CloneNetwork, GeneratorTraining  # noqa: PLC0415  torch is optional

        clone_network = CloneNetwork(
            student_factory.student(rng), settings.student_rate, settings.momentum, settings.decay
        )
        return clone_network, GeneratorTraining(shape, settings.noise, settings.width, settings.generator_rate, rng)

    def _train_generator(
        self,
        oracle: Oracle,
        generator_training: GeneratorTraining,
        clone: TrainableClone,
        rng: np.random.Generator,
        rate_share: float,
    ) -> None:
        """One step of the generator towards images on which clone and victim disagree; none if the budget is too small."""
        count = min(self.settings.batch, oracle.left // (1 + self.settings.directions))
        if not count:
            return
        raw = generator_training.raw(count, for_training=True)
        directions = rng.normal(size=(self.settings.directions, *raw.shape))
        directions /= np.sqrt(np.square(directions).sum(axis=tuple(range(2, directions.ndim)), keepdims=True))

        def agreement(points: Floats) -> Floats:
            images = as_images(points)
            victim_logits = pseudo_logits(query(oracle, images, labels_only=False))
            agreed: Floats = -np.abs(victim_logits - clone.logits(images)).mean(axis=1)
            return agreed

        gradients = estimate_gradients(agreement, raw, directions, self.settings.difference)
        generator_training.train(gradients / count, rate_share)
