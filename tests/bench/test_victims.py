"""Network victims: architectures, seeded and resumable training, and the cache by recipe and data."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from modeltoll.bench import datasets  # noqa: E402  torch first: without it there is nothing to test
from modeltoll.bench.shared_progress import no_progress  # noqa: E402
from modeltoll.bench.victims import onnx_stages, registry, trained_networks, training  # noqa: E402
from modeltoll.bench.victims.networks import ARCHITECTURES, MnistNet, ResidualNet, ResNet, as_tensor  # noqa: E402
from modeltoll.bench.victims.training import TrainingRecipe, build, train  # noqa: E402

pytestmark = pytest.mark.torch

VICTIM_FILES = Path(__file__).parents[2] / "results" / "victims"

RECIPE = TrainingRecipe("mnistnet", epochs=3, rate=0.05, batch=32, shift=2, flip=True)


def images(count=96, side=28, seed=0):
    """Two classes: images with bright upper or lower halves."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    x = rng.uniform(size=(count, side, side)) * 0.4
    x[labels == 0, : side // 2] += 0.6
    x[labels == 1, side // 2 :] += 0.6
    return datasets.Images(x, labels.astype(np.int64))


def same(one, other):
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(left, right) for left, right in pairs)


def test_resnet_34_has_its_number_of_parameters():
    assert sum(parameter.numel() for parameter in ResNet().parameters()) == 21_282_122


def test_mnistnet_has_the_papers_number_of_parameters():
    assert sum(parameter.numel() for parameter in MnistNet().parameters()) == 431_080


@pytest.mark.parametrize(
    ("network", "shape"), [(MnistNet, (4, 1, 28, 28)), (ResidualNet, (4, 3, 32, 32)), (ResNet, (2, 3, 32, 32))]
)
def test_the_last_stage_is_the_input_of_the_head(network, shape):
    made = network().eval()
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    stages = made.stages(x)
    assert stages[-1].ndim == 2
    assert torch.equal(made.head(stages[-1]), made(x))
    assert made(x).shape == (len(x), 10)


def test_weights_depend_on_the_seed_only_and_the_global_random_state_is_unchanged():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    one = build(RECIPE)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(6)
    assert same(build(RECIPE), one)
    assert not same(build(replace(RECIPE, seed=1)), one)


def test_an_interrupted_training_resumes_and_ends_in_the_same_network(tmp_path):
    private = images()
    x, y = as_tensor(private.x), torch.from_numpy(private.y)
    whole = train(RECIPE, x, y, tmp_path / "whole.pt", lambda _done, _most: None)

    class Stop(Exception):
        pass

    def interrupt(done, _most):
        if done == 5:
            raise Stop

    with pytest.raises(Stop):
        train(RECIPE, x, y, tmp_path / "broken.pt", interrupt)
    steps = []
    resumed = train(RECIPE, x, y, tmp_path / "broken.pt", lambda done, most: steps.append((done, most)))
    assert steps[0] == (4, 9)
    assert same(resumed, whole)


def test_a_victim_is_trained_once_for_each_recipe_and_data(tmp_path, monkeypatch):
    def load(_folder, *, train):
        return images(96 if train else 40, seed=int(train))

    monkeypatch.setitem(registry.VICTIMS, "halves", registry.VictimRecipe(load, replace(RECIPE, epochs=6)))
    steps = []
    first = registry.load_victim("halves", tmp_path, tmp_path, lambda done, _: steps.append(done))
    assert first.accuracy(load(tmp_path, train=False)) > 0.9
    assert len(steps) == 18
    again = registry.load_victim("halves", tmp_path, tmp_path, lambda done, _: steps.append(done))
    assert len(steps) == 18
    assert again.identity == first.identity
    x = images(7, seed=3).x
    assert np.array_equal(again.scores(x), first.scores(x))
    assert first.scores(x).sum(axis=1) == pytest.approx(np.ones(7))
    assert first.features(x).shape == (7, 500)
    assert [stage.shape for stage in first.stages(x)] == [(7, 20), (7, 50), (7, 500)]
    assert np.allclose(first.stages(x)[-1], first.features(x))
    served = first.feature_extractor(x.shape[1:])
    assert served.dimensions == x[0].size
    for seen, stage in zip(served.features(x.reshape(7, -1)), first.stages(x)[-3:], strict=True):
        assert np.allclose(seen, stage, rtol=1e-4, atol=1e-5)
    whole = served.features(x.reshape(7, -1))
    monkeypatch.setattr(onnx_stages, "_ROWS", 3)
    for seen, at_once in zip(served.features(x.reshape(7, -1)), whole, strict=True):
        assert np.array_equal(seen, at_once)
    monkeypatch.setitem(registry.VICTIMS, "halves", registry.VictimRecipe(load, RECIPE))
    assert registry.load_victim("halves", tmp_path, tmp_path, lambda _d, _m: None).identity != first.identity
    assert not list(tmp_path.glob("*.checkpoint"))


def test_every_victim_has_a_known_architecture_and_shifted_images_are_windows():
    assert {victim.recipe.architecture for victim in registry.VICTIMS.values()} <= set(ARCHITECTURES)
    x = torch.arange(2 * 36.0).reshape(2, 1, 6, 6)
    moved = training.augment(x, torch.Generator().manual_seed(1), shift=2, flip=False)
    assert moved.shape == x.shape
    assert set(moved.unique().tolist()) <= {0.0, *x.unique().tolist()}


@pytest.mark.parametrize("path", sorted(VICTIM_FILES.glob("*.pt")), ids=lambda path: path.stem)
def test_a_victim_that_is_kept_with_the_results_is_read_from_the_cache(path, tmp_path):
    shutil.copy(path, tmp_path)
    name = path.stem.split("-", 1)[1].rpartition("-")[0]
    recipe = registry.VICTIMS[name].recipe
    network = trained_networks.trained_network(recipe, images(), tmp_path / path.name, no_progress)
    inputs = torch.rand((4, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert network(inputs).shape == (4, 10)
        assert not torch.equal(network(inputs), build(recipe).eval()(inputs))
