"""Query rounds: budgets, pools and choices."""

from __future__ import annotations

import numpy as np
import pytest

from modeltoll.bench.attacks.query_rounds import (
    PAPER_ROUNDS,
    CandidatePool,
    QueriedRows,
    RoundPlan,
    Rounds,
    TooFewImages,
    indices_of_lowest,
    query,
    query_in_rounds,
)
from modeltoll.bench.attacks.standard import Standard
from modeltoll.bench.students.kernel import KernelCloneFactory
from modeltoll.testing.attacks import CountingOracle

IMAGES = np.arange(20.0)[:, None, None] / 20.0 * np.ones((20, 2, 2))


def queried(count=1):
    return QueriedRows(IMAGES[:count], np.eye(10)[:count], KernelCloneFactory().student(np.random.default_rng(0)))


def places(images):
    return (images[:, 0, 0] * 20).round().astype(int).tolist()


def test_a_small_budget_is_split_into_rounds_and_a_large_one_keeps_the_round_size():
    assert PAPER_ROUNDS.round_size(10_000) == 1000
    assert PAPER_ROUNDS.round_size(9_000) == 1000
    assert PAPER_ROUNDS.round_size(90) == 23
    assert Rounds(min_rounds=4).round_size(3) == 1
    assert Rounds().round_size(0) == 1


def test_a_new_clone_is_trained_on_all_rows_and_reported_after_each_round(world):
    learnt = []

    class RecordingStudent:
        def train(self, images, targets, schedule, rng):
            learnt.append((len(images), len(targets)))

        def scores(self, images):
            return np.full((len(images), 10), 0.1)

    class RecordingFactory:
        def student(self, rng):
            return RecordingStudent()

    reported = []
    oracle = CountingOracle(world.victim, 10)
    plan = RoundPlan(RecordingFactory(), Rounds(round_rows=4, min_rounds=1))
    clone = query_in_rounds(
        oracle, lambda _, count: world.resources.own[:count], plan, np.random.default_rng(0), reported.append
    )
    assert learnt == [(4, 4), (8, 8), (10, 10)]
    assert reported[-1] is clone
    assert len({id(student) for student in reported}) == 3


def test_no_budget_gives_an_untrained_clone(world):
    oracle = CountingOracle(world.victim, 0)
    clone = Standard(KernelCloneFactory()).run(oracle, world.resources, np.random.default_rng(0), lambda _: None)
    assert np.allclose(clone.scores(world.resources.own[:3]), 0.1)
    assert not oracle.queries


def test_a_pool_smaller_than_the_budget_is_refused_before_any_query(world):
    oracle = CountingOracle(world.victim, 701)
    with pytest.raises(TooFewImages, match="needs 701 images, but there are 700"):
        Standard(KernelCloneFactory()).run(oracle, world.resources, np.random.default_rng(0), lambda _: None)
    assert oracle.left == 701


def test_a_pool_gives_every_image_once():
    pool = CandidatePool(IMAGES, 20, np.random.default_rng(1))
    next_images = pool.chosen_by(lambda _, candidates, count: indices_of_lowest(candidates[:, 0, 0], count))
    first = places(next_images(None, 5))
    second = places(next_images(queried(5), 5))
    rest = places(pool.draw(10))
    assert second == sorted(set(range(20)) - set(first))[:5]
    assert sorted(first + second + rest) == list(range(20))


def test_choices_are_random_until_the_given_number_of_rows_is_queried():
    asked = []

    def select(_, candidates, count):
        asked.append(count)
        return np.arange(count)

    next_images = CandidatePool(IMAGES, 20, np.random.default_rng(1)).chosen_by(select, at_random=8)
    next_images(queried(7), 4)
    assert asked == []
    next_images(queried(8), 4)
    assert asked == [4]


def test_a_scan_considers_that_many_images_but_never_fewer_than_it_chooses():
    seen = []

    def select(_, candidates, count):
        seen.append(len(candidates))
        return np.arange(count)

    next_images = CandidatePool(IMAGES, 20, np.random.default_rng(1), scan=6).chosen_by(select)
    bought = [
        *places(next_images(queried(), 3)),
        *places(next_images(queried(), 8)),
        *places(next_images(queried(), 9)),
    ]
    assert seen == [6, 8, 9]
    assert sorted(bought) == list(range(20))


def test_labels_are_one_hot_vectors_of_the_most_probable_class():
    oracle = CountingOracle(lambda images: np.tile([0.2, 0.5, 0.3], (len(images), 1)), 4)
    assert query(oracle, IMAGES[:2], labels_only=True).tolist() == [[0, 1, 0], [0, 1, 0]]
    assert query(oracle, IMAGES[:2], labels_only=False).tolist() == [[0.2, 0.5, 0.3], [0.2, 0.5, 0.3]]
