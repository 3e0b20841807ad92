"""Thieves that need networks: MixMatch and DataFree."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from modeltoll.bench.attacks.attack import AttackerResources
from modeltoll.bench.attacks.datafree import INVENTING, DataFree, as_images, logits_of, slopes_of
from modeltoll.bench.attacks.mixmatch import MIX_COURSE, MixMatch
from modeltoll.bench.attacks.registry import ATTACKS
from modeltoll.bench.datasets import Images
from modeltoll.bench.students.kernel import KernelCloneFactory
from modeltoll.errors import SettingsError
from modeltoll.testing.attacks import CountingOracle, check_attack

HASTY_MIX = replace(MIX_COURSE, epochs=2, steps=3, batch=8, average=0.9)
HASTY_INVENTING = replace(INVENTING, batch=8, width=4, noise=8, student_rate=0.01)


def test_slopes_by_differences_are_the_slopes_averaged_over_ways():
    rng = np.random.default_rng(0)
    raw, weights = rng.normal(size=(3, 4, 4)), rng.normal(size=(4, 4))

    def loss(points):
        return (points * weights).sum(axis=(1, 2))

    ways = np.tile(np.eye(16).reshape(16, 1, 4, 4), (1, 3, 1, 1))  # all unit ways: the mean times the size is exact
    found = slopes_of(loss, raw, ways, 1e-3)
    assert found == pytest.approx(np.tile(weights, (3, 1, 1)), abs=1e-9)


def test_logits_are_told_back_up_to_a_constant_and_nothing_is_infinite():
    logits = np.array([[3.0, -1.0, -2.0], [0.5, 0.0, -0.5]])
    told = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert logits_of(told) == pytest.approx(logits, abs=1e-9)
    assert np.isfinite(logits_of(np.eye(3))).all()


def test_any_raw_value_is_a_pixel():
    assert as_images(np.array([-1e9, 0.0, 1e9])).tolist() == [0.0, 0.5, 1.0]


@pytest.mark.torch
@pytest.mark.parametrize("name", ["datafree", "mixmatch"])
def test_they_need_networks_and_say_so(name, world):
    attack = ATTACKS.built_in[name].attack(KernelCloneFactory(), quick=True)
    oracle = CountingOracle(world.victim, 30)
    with pytest.raises(SettingsError, match="must be networks"):
        attack.run(oracle, world.resources, np.random.default_rng(0), lambda _: None)
    assert oracle.left == 30


def halves(images):
    """A victim: the probability of the first two classes goes with the brightness of the halves."""
    up, down = (images[:, part].reshape(len(images), -1).mean(axis=1) for part in (slice(14), slice(14, None)))
    scores = np.full((len(images), 10), 0.01)
    scores[:, 0], scores[:, 1] = up, down
    return scores / scores.sum(axis=1, keepdims=True)


def resources(shape):
    rng = np.random.default_rng(0)
    return AttackerResources(
        10, rng.uniform(size=(60, *shape)), Images(rng.uniform(size=(30, *shape)), np.arange(30) % 3)
    )


@pytest.mark.torch
@pytest.mark.parametrize(("architecture", "shape"), [("mnistnet", (28, 28)), ("residual", (32, 32, 3))])
@pytest.mark.parametrize(
    ("attack", "settings", "labels_only"), [(MixMatch, HASTY_MIX, True), (DataFree, HASTY_INVENTING, False)]
)
def test_they_keep_the_law(attack, settings, labels_only, architecture, shape):
    networks = pytest.importorskip("modeltoll.bench.students.networks")
    thief = attack(networks.NetworkSchool(architecture), settings)
    check_attack(thief, halves, resources(shape), 59, labels_only=labels_only)


@pytest.mark.torch
def test_datafree_invents_squares_only():
    networks = pytest.importorskip("modeltoll.bench.students.networks")
    attack = DataFree(networks.NetworkSchool("mnistnet"), HASTY_INVENTING)
    with pytest.raises(SettingsError, match="side divisible by 4"):
        attack.run(CountingOracle(halves, 30), resources((28, 26)), np.random.default_rng(0), lambda _: None)


@pytest.mark.torch
def test_datafree_shows_its_clone_at_each_tenth_of_the_budget_and_its_rates_fall():
    networks = pytest.importorskip("modeltoll.bench.students.networks")
    shown = []
    oracle = CountingOracle(halves, 640)
    attack = DataFree(networks.NetworkSchool("mnistnet"), HASTY_INVENTING)
    attack.run(oracle, resources((28, 28)), np.random.default_rng(0), lambda _: shown.append(oracle.left))
    assert len(shown) == 10
    assert shown[-1] == 0
    assert {len(images) for images in oracle.queries[:6]} == {8, 16}


@pytest.mark.torch
def test_mixmatch_learns_from_few_labels_and_needs_no_others_left():
    networks = pytest.importorskip("modeltoll.bench.students.networks")
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(120, 28, 28)) * 0.4
    x[::2, :14] += 0.6
    x[1::2, 14:] += 0.6
    own = AttackerResources(10, x[:80], Images(x[:1], np.zeros(1, np.int64)))
    settings = replace(MIX_COURSE, epochs=2, steps=40, batch=16, average=0.9)
    for budget in (20, 80):
        oracle, shown = CountingOracle(halves, budget), []
        attack = MixMatch(networks.NetworkSchool("mnistnet"), settings)
        clone = attack.run(oracle, own, np.random.default_rng(1), shown.append)
        assert (clone.scores(x[80:]).argmax(axis=1) == halves(x[80:]).argmax(axis=1)).mean() > 0.9
        assert len(shown) == 2
        assert oracle.left == 0


@pytest.mark.torch
def test_no_budget_teaches_them_nothing():
    networks = pytest.importorskip("modeltoll.bench.students.networks")
    for attack in (MixMatch, DataFree):
        oracle = CountingOracle(halves, 0)
        clone = attack(networks.NetworkSchool("mnistnet")).run(
            oracle, resources((28, 28)), np.random.default_rng(0), lambda _: None
        )
        assert clone.scores(np.zeros((2, 28, 28))).shape == (2, 10)
        assert oracle.queries == []
