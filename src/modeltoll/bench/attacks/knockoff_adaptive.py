"""Knockoff Nets with adaptive queries: a gradient bandit learns which classes of foreign images to query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.bench.attacks.knockoff import KNOCKOFF_ROUNDS
from modeltoll.bench.attacks.query_rounds import QueriedRows, RoundPlan, Rounds, TooFewImages, query, run_rounds
from modeltoll.bench.students.student import TrainingSchedule

if TYPE_CHECKING:
    from modeltoll.bench.attacks.attack import AttackerResources, Clone, Oracle, RoundCallback
    from modeltoll.bench.datasets import Images
    from modeltoll.bench.students.student import StudentFactory
    from modeltoll.records import Bools, Floats

__all__ = ["KNOCKOFF_ADAPTIVE_PARAMS", "Bandit", "KnockoffAdaptive", "KnockoffAdaptiveParams", "Reward"]

_ONE_EPOCH = TrainingSchedule(epochs=1)


@dataclass(frozen=True, slots=True)
class KnockoffAdaptiveParams:
    """Settings: the bandit draws ``at_once`` images of one class; an auxiliary clone is trained on each draw by ``online``.

    After each of the ``rounds`` a new clone is trained on all rows.
    """

    rounds: Rounds = KNOCKOFF_ROUNDS
    online: TrainingSchedule = _ONE_EPOCH
    at_once: int = 1


KNOCKOFF_ADAPTIVE_PARAMS = KnockoffAdaptiveParams()


class Bandit:
    """A gradient bandit with preferences over actions and the mean reward as baseline; Sutton and Barto, section 2.8.

    The step size of an action is one over the number of times it was taken (Orekondy et al. 2019, section 4.2).
    """

    def __init__(self, actions: int) -> None:
        self._preferences = np.zeros(actions)
        self._counts = np.zeros(actions)
        self._mean = 0.0

    def probabilities(self, allowed: Bools) -> Floats:
        """The probability (actions,) of each action: the softmax of the preferences over the allowed ones."""
        exponentials = np.where(allowed, np.exp(self._preferences - self._preferences[allowed].max()), 0.0)
        probabilities: Floats = exponentials / exponentials.sum()
        return probabilities

    def update(self, action: int, reward: float, probabilities: Floats) -> None:
        """Update the preferences with the reward of an action that was drawn with these probabilities (actions,)."""
        self._counts[action] += 1.0
        self._mean += (reward - self._mean) / self._counts.sum()
        gain = (reward - self._mean) / self._counts[action]
        self._preferences -= gain * probabilities
        self._preferences[action] += gain


class Reward:
    """The reward of answers, in 0..1: the mean of certainty, diversity and the clone's loss, each scaled to 0..1.

    Orekondy et al. 2019, section 4.2. Each is scaled by its range over all calls so far.
    """

    def __init__(self, classes: int) -> None:
        self._mean = np.zeros(classes)
        self._rows = 0
        self._low, self._high = np.full(3, np.inf), np.full(3, -np.inf)

    def of(self, answers: Floats, predicted: Floats) -> float:
        """The reward of the victim's answers (n, classes), given the clone's scores (n, classes) of the same images."""
        second, first = np.partition(answers, -2, axis=1)[:, -2:].T
        diversity = np.maximum(answers - self._mean, 0.0).sum(axis=1)
        loss = -(answers * np.log(np.maximum(predicted, 1e-12))).sum(axis=1)
        parts = np.array([(first - second).mean(), diversity.mean(), loss.mean()])
        self._mean = (self._mean * self._rows + answers.sum(axis=0)) / (self._rows + len(answers))
        self._rows += len(answers)
        self._low, self._high = np.minimum(self._low, parts), np.maximum(self._high, parts)
        span = self._high - self._low
        return float(np.mean(np.where(span > 0.0, (parts - self._low) / np.where(span > 0.0, span, 1.0), 0.5)))


class _ImagesByLabel:
    """Foreign images by class, in random order, each returned once."""

    def __init__(self, foreign: Images, need: int, rng: np.random.Generator) -> None:
        if len(foreign.x) < need:
            raise TooFewImages(need, len(foreign.x))
        self._images = foreign.x
        self._unused = [rng.permutation(np.flatnonzero(foreign.y == label)) for label in np.unique(foreign.y)]

    @property
    def available(self) -> Bools:
        """Which classes have unused images, (classes,)."""
        return np.array([len(indices) > 0 for indices in self._unused])

    def take(self, label: int, count: int) -> Floats:
        """At most ``count`` unused images of a class."""
        indices, self._unused[label] = self._unused[label][:count], self._unused[label][count:]
        images: Floats = self._images[indices]
        return images


@dataclass(frozen=True, slots=True)
class KnockoffAdaptive:
    """Query foreign images of classes that a bandit draws, and train on the probabilities.

    Orekondy et al. 2019, *Knockoff Nets*, section 4.2.
    """

    student_factory: StudentFactory
    settings: KnockoffAdaptiveParams = KNOCKOFF_ADAPTIVE_PARAMS
    name: str = "Knockoff adaptive"

    def run(
        self, oracle: Oracle, resources: AttackerResources, rng: np.random.Generator, on_round: RoundCallback
    ) -> Clone:
        """As ``Attack.run``."""
        foreign = _ImagesByLabel(resources.foreign, oracle.left, rng)
        bandit, reward = Bandit(len(foreign.available)), Reward(resources.classes)
        online_student = self.student_factory.student(rng)

        def draw(count: int) -> tuple[Floats, Floats]:
            probabilities = bandit.probabilities(foreign.available)
            action = int(rng.choice(len(probabilities), p=probabilities))
            images = foreign.take(action, min(self.settings.at_once, count))
            answers = query(oracle, images, labels_only=False)
            bandit.update(action, reward.of(answers, online_student.scores(images)), probabilities)
            online_student.train(images, answers, self.settings.online, rng)
            return images, answers

        def query_step(_: QueriedRows | None, count: int) -> tuple[Floats, Floats]:
            batches = [draw(count)]
            while (missing := count - sum(len(images) for images, _ in batches)) > 0:
                batches.append(draw(missing))
            images, answers = zip(*batches, strict=True)
            return np.concatenate(images), np.concatenate(answers)

        plan = RoundPlan(self.student_factory, self.settings.rounds, labels_only=False)
        return run_rounds(oracle, query_step, plan, rng, on_round)
