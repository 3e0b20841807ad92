"""The law of attacks."""

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
    """An oracle that keeps what it was asked. ``victim`` gives probabilities (n, classes) of images."""

    victim: Callable[[Floats], Floats]
    left: int
    asked: list[Floats] = field(default_factory=list)

    def ask(self, images: Floats) -> Floats:
        """The victim's probabilities.

        Raises:
            BudgetSpent: more rows than are left.
        """
        if len(images) > self.left:
            raise BudgetSpent(f"{len(images)} rows were asked for, but {self.left} are left")
        self.left -= len(images)
        self.asked.append(np.array(images))
        return self.victim(images)


@dataclass(frozen=True, slots=True, eq=False)
class _Theft:
    """What came of one run: the queries in their order, the last clone's scores of own images, the rounds watched."""

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
    """Hold an attack to the law of ``Attack``.

    It asks exactly ``budget`` rows, never more than are left, each of the own images' shape with values in 0..1; the
    same seed gives the same queries and the same clone, bit for bit; its resources stay as they were; the clone's scores
    are probabilities, and every round is shown to the watch, the last one being what is returned; where it is said to
    look at ``labels_only``, other probabilities of the same class change nothing.

    Args:
        attack: the attack on trial, with a course short enough to be run three times.
        victim: probabilities (n, classes) of images.
        resources: what the attacker has; ``resources.own`` has 20 images or more.
        budget: rows, 20 or more.
        labels_only: whether it claims to use nothing but the most probable class.
        seed: of all chance.

    Raises:
        AssertionError: the attack breaks the law; the message says how.
    """
    assert isinstance(attack.name, str), "the name is not text"
    assert attack.name, "the name is empty"
    assert budget >= 20, "the suite needs 20 rows or more"
    assert len(resources.own) >= 20, "the suite needs 20 own images or more"
    before = _copy(resources)
    first = _steal(attack, victim, resources, budget, seed)
    for now, then in (
        (resources.own, before.own),
        (resources.foreign.x, before.foreign.x),
        (resources.foreign.y, before.foreign.y),
    ):
        assert np.array_equal(now, then), "the attack changed its means"
    _check_queries(first, resources, budget)
    _check_clone(first, resources)
    _assert_same(_steal(attack, victim, resources, budget, seed), first, "the same seed gives two results")
    if labels_only:
        blunt = _steal(attack, lambda images: _blunted(victim(images)), resources, budget, seed)
        _assert_same(blunt, first, "an attack that uses labels only looked at probabilities")


def _steal(
    attack: Attack, victim: Callable[[Floats], Floats], resources: AttackerResources, budget: int, seed: int
) -> _Theft:
    oracle = CountingOracle(victim, budget)
    evaluation_set = resources.own[:20]
    watched: list[Floats] = []

    def watch(clone: Clone) -> None:
        watched.append(clone.scores(evaluation_set))

    try:
        clone = attack.run(oracle, resources, np.random.default_rng(seed), watch)
    except BudgetSpent as error:
        raise AssertionError(f"the attack asked for more than was left: {error}") from None
    assert oracle.left == 0, f"{oracle.left} rows of the budget were not spent"
    scores = clone.scores(evaluation_set)
    assert watched, "no round was shown to the watch"
    assert np.array_equal(watched[-1], scores), "the clone that is returned is not the last that was shown to the watch"
    return _Theft(np.concatenate(oracle.asked), scores, len(watched))


def _check_queries(extraction: _Theft, resources: AttackerResources, budget: int) -> None:
    assert extraction.queries.shape == (budget, *resources.own.shape[1:]), (
        f"the queries have shape {extraction.queries.shape}, not {(budget, *resources.own.shape[1:])}"
    )
    assert np.isfinite(extraction.queries).all(), "a query is not finite"
    assert extraction.queries.min() >= 0.0, "a query has a value below 0"
    assert extraction.queries.max() <= 1.0, "a query has a value above 1"


def _check_clone(extraction: _Theft, resources: AttackerResources) -> None:
    assert extraction.scores.shape == (20, resources.classes), (
        f"the clone's scores have shape {extraction.scores.shape}"
    )
    assert extraction.scores.dtype == np.float64, f"the clone's scores are {extraction.scores.dtype}, not float64"
    assert (extraction.scores >= 0.0).all(), "a score of the clone is negative"
    assert np.allclose(extraction.scores.sum(axis=1), 1.0, atol=1e-6), "the clone's scores do not sum to 1"


def _blunted(scores: Floats) -> Floats:
    """As different as probabilities of the same most probable class can be."""
    blunted: Floats = np.eye(scores.shape[1])[scores.argmax(axis=1)]
    return blunted


def _copy(resources: AttackerResources) -> AttackerResources:
    foreign = type(resources.foreign)(resources.foreign.x.copy(), resources.foreign.y.copy())
    return AttackerResources(resources.classes, resources.own.copy(), foreign, resources.cost)


def _assert_same(found: _Theft, expected: _Theft, fault: str) -> None:
    assert np.array_equal(found.queries, expected.queries), f"{fault}: the queries differ"
    assert np.array_equal(found.scores, expected.scores), f"{fault}: the clones differ"
    assert found.rounds == expected.rounds, f"{fault}: the numbers of rounds differ"
