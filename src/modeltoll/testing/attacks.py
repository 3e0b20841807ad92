"""Conformance suite for attacks of the benchmark: ``check_attack(attack, victim, resources, budget, labels_only=...)``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.bench.attacks.attack import AttackerResources, BudgetSpent

if TYPE_CHECKING:
    from collections.abc import Callable

    from modeltoll.bench.attacks.attack import Attack, Clone
    from modeltoll.records import Floats

__all__ = ["CountingOracle", "check_attack"]


@dataclass(slots=True, eq=False)
class CountingOracle:
    """An oracle with a budget of ``left`` rows that records every batch in ``queries``.

    ``victim`` returns probabilities (n, classes) of images.
    """

    victim: Callable[[Floats], Floats]
    left: int
    queries: list[Floats] = field(default_factory=list)

    def ask(self, images: Floats) -> Floats:
        """The victim's probabilities (n, classes).

        Raises:
            BudgetSpent: ``images`` has more than ``left`` rows.
        """
        if len(images) > self.left:
            raise BudgetSpent(f"{len(images)} rows were queried, but {self.left} are left")
        self.left -= len(images)
        self.queries.append(np.array(images))
        return self.victim(images)


@dataclass(frozen=True, slots=True, eq=False)
class _RunResult:
    """One run: the queries in order, the last clone's scores (20, classes) of own images, and the number of rounds."""

    queries: Floats
    scores: Floats
    rounds: int


def check_attack(
    attack: Attack,
    victim: Callable[[Floats], Floats],
    resources: AttackerResources,
    budget: int,
    *,
    labels_only: bool,
    seed: int = 0,
) -> None:
    """Check an attack against the ``Attack`` protocol; the attack is run twice, or three times with ``labels_only``.

    It must query exactly ``budget`` rows, each of the own images' shape with values in 0..1. The same seed must give the
    same queries and the same clone, bit for bit. It must not change ``resources``. The clone's scores must be
    probabilities. It must report every round, and return the clone of the last one. With ``labels_only``, other
    probabilities of the same class must change nothing.

    Args:
        attack: the attack, with a training short enough to run it three times.
        victim: returns probabilities (n, classes) of images.
        resources: what the attacker has; ``resources.own`` has 20 images or more.
        budget: number of rows, 20 or more.
        labels_only: whether the attack uses only the most probable class of each answer.
        seed: seed of the attack's generator.

    Raises:
        AssertionError: the attack violates the protocol; the message says how.
    """
    assert isinstance(attack.name, str), "the name is not text"
    assert attack.name, "the name is empty"
    assert budget >= 20, "the suite needs 20 rows or more"
    assert len(resources.own) >= 20, "the suite needs 20 own images or more"
    original = _copy(resources)
    first = _run(attack, victim, resources, budget, seed)
    for after, before in (
        (resources.own, original.own),
        (resources.foreign.x, original.foreign.x),
        (resources.foreign.y, original.foreign.y),
    ):
        assert np.array_equal(after, before), "the attack changed its resources"
    _check_queries(first, resources, budget)
    _check_clone(first, resources)
    _assert_same(_run(attack, victim, resources, budget, seed), first, "the same seed gives two results")
    if labels_only:
        label_result = _run(attack, lambda images: _one_hot(victim(images)), resources, budget, seed)
        _assert_same(label_result, first, "an attack with labels_only used probabilities")


def _run(
    attack: Attack, victim: Callable[[Floats], Floats], resources: AttackerResources, budget: int, seed: int
) -> _RunResult:
    oracle = CountingOracle(victim, budget)
    test_images = resources.own[:20]
    rounds_scores: list[Floats] = []

    def record_round(clone: Clone) -> None:
        rounds_scores.append(clone.scores(test_images))

    try:
        clone = attack.run(oracle, resources, np.random.default_rng(seed), record_round)
    except BudgetSpent as error:
        raise AssertionError(f"the attack queried more rows than were left: {error}") from None
    assert oracle.left == 0, f"{oracle.left} rows of the budget were not used"
    scores = clone.scores(test_images)
    assert rounds_scores, "no round was reported"
    assert np.array_equal(rounds_scores[-1], scores), "the returned clone is not that of the last reported round"
    return _RunResult(np.concatenate(oracle.queries), scores, len(rounds_scores))


def _check_queries(result: _RunResult, resources: AttackerResources, budget: int) -> None:
    assert result.queries.shape == (budget, *resources.own.shape[1:]), (
        f"the queries have shape {result.queries.shape}, not {(budget, *resources.own.shape[1:])}"
    )
    assert np.isfinite(result.queries).all(), "a query is not finite"
    assert result.queries.min() >= 0.0, "a query has a value below 0"
    assert result.queries.max() <= 1.0, "a query has a value above 1"


def _check_clone(result: _RunResult, resources: AttackerResources) -> None:
    assert result.scores.shape == (20, resources.classes), f"the clone's scores have shape {result.scores.shape}"
    assert result.scores.dtype == np.float64, f"the clone's scores are {result.scores.dtype}, not float64"
    assert (result.scores >= 0.0).all(), "a score of the clone is negative"
    assert np.allclose(result.scores.sum(axis=1), 1.0, atol=1e-6), "the clone's scores do not sum to 1"


def _one_hot(scores: Floats) -> Floats:
    """Probabilities of 1 for the most probable class, (n, classes)."""
    one_hot: Floats = np.eye(scores.shape[1])[scores.argmax(axis=1)]
    return one_hot


def _copy(resources: AttackerResources) -> AttackerResources:
    foreign = type(resources.foreign)(resources.foreign.x.copy(), resources.foreign.y.copy())
    return AttackerResources(resources.classes, resources.own.copy(), foreign, resources.cost)


def _assert_same(found: _RunResult, expected: _RunResult, message: str) -> None:
    assert np.array_equal(found.queries, expected.queries), f"{message}: the queries differ"
    assert np.array_equal(found.scores, expected.scores), f"{message}: the clones differ"
    assert found.rounds == expected.rounds, f"{message}: the numbers of rounds differ"
