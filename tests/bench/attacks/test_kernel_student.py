"""The kernel student: it learns its targets, and its input gradients are those of its logits."""

from __future__ import annotations

import numpy as np
import pytest

from modeltoll.bench.students.kernel import KernelCloneFactory
from modeltoll.bench.students.student import PAPER_SCHEDULE


def test_a_kernel_student_learns_digits_and_gives_probabilities(world):
    student = KernelCloneFactory().student(np.random.default_rng(0))
    student.train(world.resources.own, world.victim(world.resources.own), PAPER_SCHEDULE, np.random.default_rng(0))
    scores = student.scores(world.evaluation_set.x)
    assert (scores.argmax(axis=1) == world.evaluation_set.y).mean() > 0.9
    assert scores.sum(axis=1) == pytest.approx(np.ones(len(scores)))
    assert scores.min() > 0.0
    assert (student.logits(world.evaluation_set.x).argmax(axis=1) == scores.argmax(axis=1)).all()


def test_training_in_parts_equals_training_at_once(world):
    x, y = world.resources.own[:100], world.victim(world.resources.own[:100])
    rng = np.random.default_rng(0)
    whole, parts = KernelCloneFactory().student(rng), KernelCloneFactory().student(rng)
    whole.train(x, y, PAPER_SCHEDULE, rng)
    parts.train(x[:30], y[:30], PAPER_SCHEDULE, rng)
    assert not np.array_equal(parts.scores(x), whole.scores(x))
    parts.train(x[30:], y[30:], PAPER_SCHEDULE, rng)
    assert np.array_equal(parts.scores(x), whole.scores(x))


def test_the_input_gradients_of_a_kernel_student_are_those_of_its_logits(world):
    rng = np.random.default_rng(0)
    student = KernelCloneFactory().student(rng)
    student.train(world.resources.own[:200], world.victim(world.resources.own[:200]), PAPER_SCHEDULE, rng)
    images, weights, way = world.evaluation_set.x[:5], rng.normal(size=(5, 10)), rng.normal(size=(5, 8, 8))
    up, down = (student.logits(images + sign * 1e-5 * way) for sign in (1.0, -1.0))
    expected = ((up - down) * weights).sum(axis=1) / 2e-5
    assert (student.input_gradients(images, weights) * way).sum(axis=(1, 2)) == pytest.approx(expected, rel=1e-5)


def test_an_untrained_student_gives_equal_scores_and_no_gradient():
    student = KernelCloneFactory(4).student(np.random.default_rng(0))
    images = np.zeros((3, 8, 8))
    assert np.array_equal(student.scores(images), np.full((3, 4), 0.25))
    assert not student.input_gradients(images, np.ones((3, 4))).any()


def test_constant_images_can_be_learnt():
    student, rng = KernelCloneFactory(2).student(np.random.default_rng(0)), np.random.default_rng(0)
    student.train(np.ones((5, 8, 8)), np.tile([0.2, 0.8], (5, 1)), PAPER_SCHEDULE, rng)
    assert student.scores(np.ones((1, 8, 8)))[0] == pytest.approx([0.2, 0.8], abs=0.01)
