"""FreeMatch: its threshold, its views, and what it learns from images without labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from modeltoll.bench.attacks.attack import AttackerResources  # noqa: E402  torch first: without it there is nothing to test
from modeltoll.bench.attacks.freematch import FREEMATCH_PARAMS, FreeMatch, FreeMatchParams  # noqa: E402
from modeltoll.bench.attacks.nearest import Neighbours  # noqa: E402
from modeltoll.bench.attacks.query_rounds import TooFewImages  # noqa: E402
from modeltoll.bench.datasets import Images  # noqa: E402
from modeltoll.bench.students.freematch import AdaptiveThreshold  # noqa: E402
from modeltoll.bench.students.networks import NetworkCloneFactory  # noqa: E402
from modeltoll.bench.students.strong_views import strong_view  # noqa: E402
from modeltoll.bench.students.student import FREEMATCH_SCHEDULE  # noqa: E402
from modeltoll.testing.attacks import CountingOracle, check_attack  # noqa: E402

from .halves_victim import halves  # noqa: E402

pytestmark = pytest.mark.torch

SHORT = replace(FREEMATCH_SCHEDULE, epochs=2, steps=3, batch=8, ratio=1, average=0.9, threshold_decay=0.9)


def resources(shape):
    rng = np.random.default_rng(0)
    return AttackerResources(
        10, rng.uniform(size=(30, *shape)), Images(rng.uniform(size=(80, *shape)), np.arange(80) % 3)
    )


@pytest.mark.parametrize(
    ("architecture", "shape", "neighbours"),
    [("mnistnet", (28, 28), Neighbours(known=10, filters=8)), ("residual", (32, 32, 3), None)],
)
def test_it_passes_the_conformance_suite(architecture, shape, neighbours):
    attack = FreeMatch(NetworkCloneFactory(architecture), FreeMatchParams(SHORT, neighbours))
    check_attack(attack, halves, resources(shape), 59, labels_only=True)


def test_it_learns_more_of_twenty_labels_with_images_without_labels_than_of_the_labels_alone():
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(320, 28, 28)) * 0.4
    x[::2, :14] += 0.6
    x[1::2, 14:] += 0.6
    settings = replace(
        FREEMATCH_SCHEDULE, epochs=2, steps=40, batch=16, ratio=1, average=0.9, threshold_decay=0.9, threshold=0.6
    )
    oracle, reported = CountingOracle(halves, 20), []
    thief = AttackerResources(10, x[:1], Images(x[:240], np.zeros(240, np.int64)))
    attack = FreeMatch(NetworkCloneFactory("mnistnet"), FreeMatchParams(settings))
    clone = attack.run(oracle, thief, np.random.default_rng(1), reported.append)
    assert (clone.scores(x[240:]).argmax(axis=1) == halves(x[240:]).argmax(axis=1)).mean() > 0.9
    assert len(reported) == 2
    assert oracle.left == 0


def test_the_threshold_follows_the_confidence_and_is_lower_for_rarer_classes():
    threshold = AdaptiveThreshold(2, 0.5, 0.0)
    assert threshold.passes(torch.tensor([[0.6, 0.4], [0.45, 0.55]])).tolist() == [True, True]
    threshold.update(torch.tensor([[0.9, 0.1], [0.9, 0.1]]))
    assert threshold.overall == pytest.approx(0.7)  # half of 1/2, half of 0.9
    assert threshold.classes.tolist() == pytest.approx([0.7, 0.3])
    passes = threshold.passes(torch.tensor([[0.69, 0.31], [0.71, 0.29], [0.4, 0.6]]))
    assert passes.tolist() == [False, True, True]  # 0.7, 0.7 and 0.7 * 3 / 7
    assert AdaptiveThreshold(2, 0.5, 0.95).passes(torch.tensor([[0.94, 0.06], [0.96, 0.04]])).tolist() == [False, True]


def test_strong_views_stay_images_differ_from_each_other_and_depend_on_the_generator_alone():
    images = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    views = [strong_view(images, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(views[0], views[1])
    assert not torch.equal(views[0], views[2])
    for view in views:
        assert view.shape == images.shape
        assert float(view.min()) >= 0.0
        assert float(view.max()) <= 1.0
    assert (views[0] == 0.5).all(dim=1).float().mean() > 0.05  # the holes


def test_a_budget_above_the_foreign_images_is_refused_before_the_first_query_and_none_returns_an_untrained_clone():
    attack = FreeMatch(NetworkCloneFactory("mnistnet"), replace(FREEMATCH_PARAMS, schedule=SHORT))
    oracle = CountingOracle(halves, 81)
    with pytest.raises(TooFewImages, match="81"):
        attack.run(oracle, resources((28, 28)), np.random.default_rng(0), lambda _: None)
    assert oracle.left == 81
    clone = attack.run(CountingOracle(halves, 0), resources((28, 28)), np.random.default_rng(0), lambda _: None)
    assert clone.scores(np.zeros((2, 28, 28))).shape == (2, 10)
