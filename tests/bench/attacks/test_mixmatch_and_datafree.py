"""MixMatch and DataFree, the attacks that need networks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from modeltoll.bench.attacks.attack import AttackerResources
from modeltoll.bench.attacks.datafree import DATAFREE_PARAMS, DataFree, as_images, estimate_gradients, pseudo_logits
from modeltoll.bench.attacks.mixmatch import MIXMATCH_SCHEDULE, MixMatch
from modeltoll.bench.attacks.registry import ATTACKS
from modeltoll.bench.datasets import Images
from modeltoll.bench.students.kernel import KernelCloneFactory
from modeltoll.errors import SettingsError
from modeltoll.testing.attacks import CountingOracle, check_attack

from .halves_victim import halves

SHORT_MIXMATCH = replace(MIXMATCH_SCHEDULE, epochs=2, steps=3, batch=8, average=0.9)
SHORT_DATAFREE = replace(DATAFREE_PARAMS, batch=8, width=4, noise=8, student_rate=0.01)


def test_estimated_gradients_are_exact_over_all_unit_directions():
    rng = np.random.default_rng(0)
    raw, weights = rng.normal(size=(3, 4, 4)), rng.normal(size=(4, 4))

    def loss(points):
        return (points * weights).sum(axis=(1, 2))

    directions = np.tile(
        np.eye(16).reshape(16, 1, 4, 4), (1, 3, 1, 1)
    )  # all unit directions: the mean times the size is exact
    found = estimate_gradients(loss, raw, directions, 1e-3)
    assert found == pytest.approx(np.tile(weights, (3, 1, 1)), abs=1e-9)


def test_pseudo_logits_are_the_logits_up_to_a_constant_and_are_finite():
    logits = np.array([[3.0, -1.0, -2.0], [0.5, 0.0, -0.5]])
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert pseudo_logits(scores) == pytest.approx(logits, abs=1e-9)
    assert np.isfinite(pseudo_logits(np.eye(3))).all()


def test_any_raw_value_is_a_pixel():
    assert as_images(np.array([-1e9, 0.0, 1e9])).tolist() == [0.0, 0.5, 1.0]


@pytest.mark.torch
@pytest.mark.parametrize("name", ["datafree", "mixmatch"])
def test_other_students_than_networks_are_refused(name, world):
    attack = ATTACKS.built_in[name].attack(KernelCloneFactory(), quick=True)
    oracle = CountingOracle(world.victim, 30)
    with pytest.raises(SettingsError, match="must be networks"):
        attack.run(oracle, world.resources, np.random.default_rng(0), lambda _: None)
    assert oracle.left == 30


def resources(shape):
    rng = np.random.default_rng(0)
    return AttackerResources(
        10, rng.uniform(size=(60, *shape)), Images(rng.uniform(size=(30, *shape)), np.arange(30) % 3)
    )


@pytest.mark.torch
@pytest.mark.parametrize(("architecture", "shape"), [("mnistnet", (28, 28)), ("residual", (32, 32, 3))])
@pytest.mark.parametrize(
    ("attack", "settings", "labels_only"), [(MixMatch, SHORT_MIXMATCH, True), (DataFree, SHORT_DATAFREE, False)]
)
def test_they_pass_the_conformance_suite(attack, settings, labels_only, architecture, shape):
    networks = pytest.importorskip("modeltoll.bench.students.networks")
    check_attack(
        attack(networks.NetworkCloneFactory(architecture), settings),
        halves,
        resources(shape),
        59,
        labels_only=labels_only,
    )


@pytest.mark.torch
def test_datafree_refuses_images_that_are_not_square():
    networks = pytest.importorskip("modeltoll.bench.students.networks")
    attack = DataFree(networks.NetworkCloneFactory("mnistnet"), SHORT_DATAFREE)
    with pytest.raises(SettingsError, match="side divisible by 4"):
        attack.run(CountingOracle(halves, 30), resources((28, 26)), np.random.default_rng(0), lambda _: None)


@pytest.mark.torch
def test_datafree_reports_its_clone_at_each_tenth_of_the_budget():
    networks = pytest.importorskip("modeltoll.bench.students.networks")
    reported = []
    oracle = CountingOracle(halves, 640)
    attack = DataFree(networks.NetworkCloneFactory("mnistnet"), SHORT_DATAFREE)
    attack.run(oracle, resources((28, 28)), np.random.default_rng(0), lambda _: reported.append(oracle.left))
    assert len(reported) == 10
    assert reported[-1] == 0
    assert {len(images) for images in oracle.queries[:6]} == {8, 16}


@pytest.mark.torch
def test_mixmatch_trains_on_few_labels_with_or_without_images_left():
    networks = pytest.importorskip("modeltoll.bench.students.networks")
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(120, 28, 28)) * 0.4
    x[::2, :14] += 0.6
    x[1::2, 14:] += 0.6
    own = AttackerResources(10, x[:80], Images(x[:1], np.zeros(1, np.int64)))
    settings = replace(MIXMATCH_SCHEDULE, epochs=2, steps=40, batch=16, average=0.9)
    for budget in (20, 80):
        oracle, reported = CountingOracle(halves, budget), []
        attack = MixMatch(networks.NetworkCloneFactory("mnistnet"), settings)
        clone = attack.run(oracle, own, np.random.default_rng(1), reported.append)
        assert (clone.scores(x[80:]).argmax(axis=1) == halves(x[80:]).argmax(axis=1)).mean() > 0.9
        assert len(reported) == 2
        assert oracle.left == 0


@pytest.mark.torch
def test_without_a_budget_they_return_untrained_clones():
    networks = pytest.importorskip("modeltoll.bench.students.networks")
    for attack in (MixMatch, DataFree):
        oracle = CountingOracle(halves, 0)
        clone = attack(networks.NetworkCloneFactory("mnistnet")).run(
            oracle, resources((28, 28)), np.random.default_rng(0), lambda _: None
        )
        assert clone.scores(np.zeros((2, 28, 28))).shape == (2, 10)
        assert oracle.queries == []
