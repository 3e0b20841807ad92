"""Nearest: which foreign images it chooses, and the embedding in which they are near."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from modeltoll.bench.attacks.attack import AttackerResources
from modeltoll.bench.attacks.nearest import Nearest, Neighbours, nearest_foreign
from modeltoll.bench.attacks.patch_features import fit_patch_features
from modeltoll.bench.attacks.query_rounds import TooFewImages
from modeltoll.bench.datasets import Images
from modeltoll.bench.students.kernel import KernelCloneFactory
from modeltoll.testing.attacks import CountingOracle

SETTINGS = Neighbours(known=40, filters=24)


@pytest.fixture
def mixed(world):
    """Foreign images of which the first 100 are digits and 500 are patches of photographs."""
    digits, patches = world.evaluation_set.x[:100], world.resources.foreign.x[:500]
    foreign = Images(np.concatenate([digits, patches]), np.zeros(600, np.int64))
    return AttackerResources(10, world.resources.own, foreign)


def test_images_of_the_task_among_many_foreign_ones_are_chosen_first(mixed):
    chosen = nearest_foreign(mixed, 100, SETTINGS, np.random.default_rng(0))
    assert (chosen < 100).mean() > 0.8  # 1 in 6 at random
    assert len(set(chosen.tolist())) == 100


def test_every_known_image_has_its_nearest_one_among_the_first(mixed):
    few = replace(SETTINGS, known=5)
    first = nearest_foreign(mixed, 5, few, np.random.default_rng(0)).tolist()
    assert first == nearest_foreign(mixed, 600, few, np.random.default_rng(0))[:5].tolist()
    assert sorted(nearest_foreign(mixed, 600, few, np.random.default_rng(0)).tolist()) == list(range(600))


def test_the_chosen_images_are_queried_nearest_first_and_the_known_ones_are_not(mixed, world):
    oracle = CountingOracle(world.victim, 60)
    Nearest(KernelCloneFactory()).run(oracle, mixed, np.random.default_rng(3), lambda _: None)
    asked = np.concatenate(oracle.queries)
    known = {image.tobytes() for image in mixed.own}
    assert not any(image.tobytes() in known for image in asked)
    assert len(np.unique(asked, axis=0)) == 60
    with pytest.raises(TooFewImages, match="601"):
        nearest_foreign(mixed, 601, SETTINGS, np.random.default_rng(0))


@pytest.mark.parametrize("shape", [(8, 8), (3, 9), (1, 30), (1, 4), (12, 10, 3)])
def test_the_embedding_is_of_each_image_alone_and_of_any_shape(shape):
    rng = np.random.default_rng(1)
    images = rng.random((230, *shape))
    features = fit_patch_features(images, 7, rng)
    embedded = features.embed(images)
    assert embedded.shape == (230, 8 * features.filters.shape[1])
    assert np.isfinite(embedded).all()
    assert features.embed(images[3:4]) == pytest.approx(embedded[3:4])
    assert features.embed(images[:0]).shape == (0, embedded.shape[1])


def test_the_embedding_of_constant_images_is_finite():
    images = np.zeros((20, 8, 8))
    assert np.isfinite(fit_patch_features(images, 5, np.random.default_rng(0)).embed(images)).all()
