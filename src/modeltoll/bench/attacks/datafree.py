"""DataFree: images made by a generator that looks for what clone and victim disagree on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.bench.attacks.query_rounds import query
from modeltoll.bench.attacks.require_torch import networks_of
from modeltoll.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from modeltoll.bench.attacks.attack import AttackerResources, Clone, Oracle, Watch
    from modeltoll.bench.students.generator import CloneNetwork, GeneratorTraining
    from modeltoll.bench.students.student import StudentFactory, TrainableClone
    from modeltoll.records import Floats

__all__ = ["INVENTING", "DataFree", "DataFreeParams", "as_images", "logits_of", "slopes_of"]

_LEAST = 1e-12  # the least probability that is taken for more than nothing


@dataclass(frozen=True, slots=True)
class DataFreeParams:
    """Settings; Truong et al. 2021, section 4 and their published defaults.

    For each step of the generator there are ``student_steps`` of the clone, all on ``batch`` images. The generator's
    slopes are forward differences over ``directions`` of length ``reach``. Both rates fall to ``fall`` of themselves at
    each of the ``milestones``, shares of the budget. ``noise`` and ``width`` are the generator's; ``rounds`` is how often
    the clone is shown.
    """

    batch: int = 256
    student_steps: int = 5
    directions: int = 1
    reach: float = 1e-3
    noise: int = 256
    width: int = 128
    student_rate: float = 0.1
    momentum: float = 0.9
    decay: float = 5e-4
    generator_rate: float = 1e-4
    milestones: tuple[float, ...] = (0.1, 0.3, 0.5)
    fall: float = 0.3
    rounds: int = 10


INVENTING = DataFreeParams()


def as_images(raw: Floats) -> Floats:
    """Raw values as pixels in 0..1."""
    pixels: Floats = 0.5 * (np.tanh(raw) + 1.0)
    return pixels


def logits_of(told: Floats) -> Floats:
    """What logits may have been where one is told probabilities (n, classes): their logarithms, less the mean."""
    logs = np.log(np.maximum(told, _LEAST))
    centred: Floats = logs - logs.mean(axis=1, keepdims=True)
    return centred


def slopes_of(loss: Callable[[Floats], Floats], raw: Floats, ways: Floats, reach: float) -> Floats:
    """Forward-difference slopes of ``loss``, (n,) of raw images (n, ...), along unit ways (directions, n, ...).

    One call for all: the images themselves and each step along the ways.
    """
    points = np.concatenate([raw[None], raw + reach * ways])
    losses = loss(points.reshape(-1, *raw.shape[1:])).reshape(len(points), len(raw))
    rises = ((losses[1:] - losses[0]) / reach).reshape(*ways.shape[:2], *[1] * (raw.ndim - 1))
    slopes: Floats = raw[0].size * (rises * ways).mean(axis=0)
    return slopes


@dataclass(frozen=True, slots=True)
class DataFree:
    """The thief; Truong et al. 2021, *Data-Free Model Extraction*."""

    student_factory: StudentFactory
    settings: DataFreeParams = INVENTING
    name: str = "DataFree"

    def run(self, oracle: Oracle, resources: AttackerResources, rng: np.random.Generator, watch: Watch) -> Clone:
        """Invent, ask and learn until the budget is spent; of the means, only the shape of an image is looked at.

        Raises:
            SettingsError: the students are no networks, or the images are not square with a side divisible by 4.
        """
        follower, inventor = self._hands(resources.own.shape[1:], rng)
        budget, shown = oracle.left, 0
        while oracle.left:
            done = 1.0 - oracle.left / budget
            share = self.settings.fall ** sum(done >= milestone for milestone in self.settings.milestones)
            self._invent(oracle, inventor, follower.student, rng, share)
            for _ in range(self.settings.student_steps):
                if count := min(self.settings.batch, oracle.left):
                    images = as_images(inventor.raw(count, learning=False))
                    follower.learn(images, logits_of(query(oracle, images, labels_only=False)), share)
            if (due := int(self.settings.rounds * (1.0 - oracle.left / budget))) > shown:
                shown = due
                watch(follower.student)
        return follower.student

    def _hands(self, shape: tuple[int, ...], rng: np.random.Generator) -> tuple[CloneNetwork, GeneratorTraining]:
        settings, student_factory = self.settings, networks_of(self.student_factory)
        if shape[0] != shape[1] or shape[0] % 4:
            raise SettingsError([f"attacks: DataFree invents squares with a side divisible by 4, not {shape}"])
        from modeltoll.bench.students.generator import CloneNetwork, GeneratorTraining  # noqa: PLC0415  torch is optional

        follower = CloneNetwork(student_factory.student(rng), settings.student_rate, settings.momentum, settings.decay)
        return follower, GeneratorTraining(shape, settings.noise, settings.width, settings.generator_rate, rng)

    def _invent(
        self, oracle: Oracle, inventor: GeneratorTraining, clone: TrainableClone, rng: np.random.Generator, share: float
    ) -> None:
        """One step of the generator, towards images on which clone and victim disagree; none where it is too dear."""
        count = min(self.settings.batch, oracle.left // (1 + self.settings.directions))
        if not count:
            return
        raw = inventor.raw(count, learning=True)
        ways = rng.normal(size=(self.settings.directions, *raw.shape))
        ways /= np.sqrt(np.square(ways).sum(axis=tuple(range(2, ways.ndim)), keepdims=True))

        def agreement(points: Floats) -> Floats:
            images = as_images(points)
            told = logits_of(query(oracle, images, labels_only=False))
            agreed: Floats = -np.abs(told - clone.logits(images)).mean(axis=1)
            return agreed

        inventor.learn(slopes_of(agreement, raw, ways, self.settings.reach) / count, share)
