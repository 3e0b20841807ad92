"""Knockoff Nets with adaptive queries: a gradient bandit learns which classes of foreign images are worth asking about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.bench.attacks.knockoff import FULL
from modeltoll.bench.attacks.query_rounds import QueriedRows, RoundPlan, Rounds, TooFewImages, query, query_selected
from modeltoll.bench.students.student import TrainingSchedule

if TYPE_CHECKING:
    from modeltoll.bench.attacks.attack import AttackerResources, Clone, Oracle, Watch
    from modeltoll.bench.datasets import Images
    from modeltoll.bench.students.student import StudentFactory
    from modeltoll.records import Bools, Floats

__all__ = ["WOOING", "Bandit", "KnockoffAdaptive", "KnockoffAdaptiveParams", "Reward"]

_ONCE = TrainingSchedule(epochs=1)


@dataclass(frozen=True, slots=True)
class KnockoffAdaptiveParams:
    """Settings: the bandit draws ``at_once`` images of one class, and a first clone learns each draw by ``online``.

    After each of the ``rounds`` another clone is trained on everything.
    """

    rounds: Rounds = FULL
    online: TrainingSchedule = _ONCE
    at_once: int = 1


WOOING = KnockoffAdaptiveParams()


class Bandit:
    """Preferences H over actions, drawn by their softmax; Sutton and Barto, section 2.8, with the baseline's mean reward.

    An action's rate is one over the number of times that it was taken (Orekondy et al. 2019, section 4.2).
    """

    def __init__(self, actions: int) -> None:
        self._preferences = np.zeros(actions)
        self._taken = np.zeros(actions)
        self._mean = 0.0

    def chances(self, allowed: Bools) -> Floats:
        """The probability of each action: none for those that are not allowed."""
        raised = np.where(allowed, np.exp(self._preferences - self._preferences[allowed].max()), 0.0)
        chances: Floats = raised / raised.sum()
        return chances

    def reward(self, action: int, amount: float, chances: Floats) -> None:
        """Learn from what an action brought, which was drawn by these chances."""
        self._taken[action] += 1.0
        self._mean += (amount - self._mean) / self._taken.sum()
        gain = (amount - self._mean) / self._taken[action]
        self._preferences -= gain * chances
        self._preferences[action] += gain


class Reward:
    """How much an answer is worth: certainty, diversity and the clone's loss, each brought to 0..1, and their mean.

    Orekondy et al. 2019, section 4.2. The range of each is that seen so far.
    """

    def __init__(self, classes: int) -> None:
        self._mean = np.zeros(classes)
        self._rows = 0
        self._low, self._high = np.full(3, np.inf), np.full(3, -np.inf)

    def of(self, told: Floats, guessed: Floats) -> float:
        """The reward of the victim's answers (n, classes), where the clone guessed others."""
        second, first = np.partition(told, -2, axis=1)[:, -2:].T
        new = np.maximum(told - self._mean, 0.0).sum(axis=1)
        loss = -(told * np.log(np.maximum(guessed, 1e-12))).sum(axis=1)
        parts = np.array([(first - second).mean(), new.mean(), loss.mean()])
        self._mean = (self._mean * self._rows + told.sum(axis=0)) / (self._rows + len(told))
        self._rows += len(told)
        self._low, self._high = np.minimum(self._low, parts), np.maximum(self._high, parts)
        span = self._high - self._low
        return float(np.mean(np.where(span > 0.0, (parts - self._low) / np.where(span > 0.0, span, 1.0), 0.5)))


class _ImagesByLabel:
    """Foreign images by class, each in a random order, none twice."""

    def __init__(self, foreign: Images, need: int, rng: np.random.Generator) -> None:
        if len(foreign.x) < need:
            raise TooFewImages(need, len(foreign.x))
        self._images = foreign.x
        self._left = [rng.permutation(np.flatnonzero(foreign.y == label)) for label in np.unique(foreign.y)]

    @property
    def stocked(self) -> Bools:
        """Which classes have images left."""
        return np.array([len(left) > 0 for left in self._left])

    def take(self, action: int, count: int) -> Floats:
        """At most so many of a class."""
        taken, self._left[action] = self._left[action][:count], self._left[action][count:]
        images: Floats = self._images[taken]
        return images


@dataclass(frozen=True, slots=True)
class KnockoffAdaptive:
    """The thief; Orekondy et al. 2019, *Knockoff Nets*, section 4.2."""

    student_factory: StudentFactory
    settings: KnockoffAdaptiveParams = WOOING
    name: str = "Knockoff adaptive"

    def run(self, oracle: Oracle, resources: AttackerResources, rng: np.random.Generator, watch: Watch) -> Clone:
        """Buy from the class that the bandit draws, until the budget is spent."""
        shelves = _ImagesByLabel(resources.foreign, oracle.left, rng)
        bandit, reward = Bandit(len(shelves.stocked)), Reward(resources.classes)
        guesser = self.student_factory.student(rng)

        def draw(count: int) -> tuple[Floats, Floats]:
            chances = bandit.chances(shelves.stocked)
            action = int(rng.choice(len(chances), p=chances))
            images = shelves.take(action, min(self.settings.at_once, count))
            told = query(oracle, images, labels_only=False)
            bandit.reward(action, reward.of(told, guesser.scores(images)), chances)
            guesser.learn(images, told, self.settings.online, rng)
            return images, told

        def shop(_: QueriedRows | None, count: int) -> tuple[Floats, Floats]:
            drawn = [draw(count)]
            while (missing := count - sum(len(images) for images, _ in drawn)) > 0:
                drawn.append(draw(missing))
            images, told = zip(*drawn, strict=True)
            return np.concatenate(images), np.concatenate(told)

        plan = RoundPlan(self.student_factory, self.settings.rounds, labels_only=False)
        return query_selected(oracle, shop, plan, rng, watch)
