"""Students of bytes: they learn what tells files apart, and refuse what bytes have not."""

from __future__ import annotations

import numpy as np
import pytest

from modeltoll.bench.attacks.query_rounds import Rounds
from modeltoll.bench.students.byte_clones import PERCEPTRON, TREES, ByteCloneFactory, byte_features
from modeltoll.bench.students.registry import student_factory
from modeltoll.bench.students.student import TrainingSchedule
from modeltoll.bench.victims.file_types import CODES
from modeltoll.errors import ModeltollError

SCHEDULE = TrainingSchedule(epochs=40)


def files(count, rng):
    """Rows (count, 1, 64) of three types, told by their alphabets, and their one-hot types of five."""
    types = np.arange(count) % 3
    codes = np.stack([rng.integers(40 + 60 * kind, 80 + 60 * kind, 64) for kind in types])
    return codes[:, None] / CODES, np.eye(5)[types]


@pytest.mark.parametrize("kind", [TREES, PERCEPTRON])
def test_a_student_of_bytes_learns_types_and_gives_probabilities(kind):
    rng = np.random.default_rng(0)
    student = ByteCloneFactory(kind, 5).student(rng)
    images, targets = files(150, rng)
    assert np.array_equal(student.scores(images), np.full((150, 5), 0.2))
    student.train(images, targets, SCHEDULE, rng)
    further, expected = files(60, rng)
    scores = student.scores(further)
    assert (scores.argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.9
    assert scores.sum(axis=1) == pytest.approx(np.ones(60))
    assert not scores[:, 3:].any()
    assert (student.logits(further).argmax(axis=1) == scores.argmax(axis=1)).all()


@pytest.mark.parametrize("kind", [TREES, PERCEPTRON])
def test_equal_seeds_give_equal_students(kind):
    images, targets = files(60, np.random.default_rng(1))
    scores = []
    for _ in range(2):
        rng = np.random.default_rng(2)
        student = ByteCloneFactory(kind, 5).student(rng)
        student.train(images, targets, SCHEDULE, rng)
        scores.append(student.scores(images))
    assert np.array_equal(*scores)


def test_where_all_answers_are_one_class_the_student_says_that_class():
    rng = np.random.default_rng(0)
    student = ByteCloneFactory(TREES, 5).student(rng)
    student.train(files(10, rng)[0], np.eye(5)[np.full(10, 2)], SCHEDULE, rng)
    assert np.array_equal(student.scores(files(3, rng)[0]), np.eye(5)[[2, 2, 2]])


def test_bytes_have_no_gradients():
    images, targets = files(2, np.random.default_rng(0))
    with pytest.raises(ModeltollError, match="no gradients"):
        ByteCloneFactory(TREES, 5).student(np.random.default_rng(0)).input_gradients(images, targets)


def test_features_are_the_ends_and_the_shares_of_codes_in_both_halves():
    codes = np.array([[7] * 100 + [9] * 100, [256] * 200])
    features = byte_features(codes)
    assert features.shape == (2, 64 + 32 + 2 * 257)
    assert set(features[0, :64]) == {7.0}
    assert set(features[0, 64:96]) == {9.0}
    shares = features[:, 96:].reshape(2, 2, 257)
    assert shares.sum(axis=2) == pytest.approx(np.ones((2, 2)))
    assert shares[0, 0, 7] == shares[0, 1, 9] == shares[1, 0, 256] == 1.0


def test_rounds_that_double_query_as_many_rows_as_all_before():
    rounds, queried = Rounds(min_rounds=16, doubling=True), []
    while (before := sum(queried)) < 5000:
        queried.append(min(rounds.round_size(5000, before), 5000 - before))
    assert queried == [313, 313, 626, 1252, 2496]
    assert Rounds().round_size(5000, 3000) == Rounds().round_size(5000)


def test_without_torch_the_network_is_a_perceptron(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert student_factory("bytenet", 5) == ByteCloneFactory(PERCEPTRON, 5)
