"""The teachers of the PATE cost: disjoint parts, one network each, resumable, cached by recipe and data, votes that count."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from modeltoll.bench.victims import teachers  # noqa: E402  torch first: without it there is nothing to test
from modeltoll.bench.victims.registry import VICTIMS  # noqa: E402
from modeltoll.bench.victims.teachers import TEACHERS, TeacherRecipe, load_teachers  # noqa: E402
from modeltoll.bench.victims.training import TrainingRecipe, build  # noqa: E402

from .test_victims import images  # noqa: E402

pytestmark = pytest.mark.torch

RECIPE = TeacherRecipe(3, 1.0, 1e-5, TrainingRecipe("mnistnet", epochs=3, rate=0.05, batch=16))


def votes(found, private):
    return found.votes(private.x.reshape(len(private.x), -1))


@pytest.fixture
def halves(monkeypatch):
    monkeypatch.setitem(TEACHERS, "halves", RECIPE)
    return images(144)


def test_teachers_learn_vote_with_whole_counts_and_are_trained_once(halves, tmp_path):
    steps = []
    first = load_teachers("halves", halves, tmp_path, lambda done, total: steps.append((done, total)))
    assert [done for done, _ in steps] == list(range(1, 28))
    assert {total for _, total in steps} == {27}  # 3 teachers, 3 epochs, 3 batches of 16 of 48 rows
    unseen = images(60, seed=5)
    counts = votes(first, unseen)
    assert counts.shape == (60, 2)
    assert (counts.sum(axis=1) == 3).all()
    assert (counts.argmax(axis=1) == unseen.y).mean() > 0.9
    again = load_teachers("halves", halves, tmp_path, lambda _d, _t: pytest.fail("they were trained before"))
    assert again.identity == first.identity
    assert np.array_equal(votes(again, unseen), counts)
    assert [path.suffix for path in tmp_path.iterdir()] == [".pt"]


def test_votes_on_many_rows_are_those_on_each(halves, tmp_path, monkeypatch):
    found = load_teachers("halves", halves, tmp_path, lambda _d, _t: None)
    whole = votes(found, halves)
    monkeypatch.setattr(teachers, "_ROWS", 7)
    assert np.array_equal(votes(found, halves), whole)


def test_an_interrupted_training_goes_on_and_ends_in_the_same_teachers(halves, tmp_path):
    class Stop(Exception):
        pass

    def interrupt(done, _total):
        if done == 14:  # in the second teacher, after its first epoch
            raise Stop

    with pytest.raises(Stop):
        load_teachers("halves", halves, tmp_path / "broken", interrupt)
    steps = []
    resumed = load_teachers("halves", halves, tmp_path / "broken", lambda done, _total: steps.append(done))
    assert steps[0] == 13
    whole = load_teachers("halves", halves, tmp_path / "whole", lambda _d, _t: None)
    for one, other in zip(resumed.networks, whole.networks, strict=True):
        assert all(
            torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
        )


def test_other_data_and_other_recipes_have_other_teachers(halves, tmp_path):
    steps = []
    first = load_teachers("halves", halves, tmp_path, lambda _d, _t: None).identity
    other = replace(RECIPE, training=replace(RECIPE.training, epochs=1))
    fewer = load_teachers("halves", halves, tmp_path, lambda _d, total: steps.append(total), other)
    assert fewer.identity != first
    assert set(steps) == {9}  # 3 teachers, 1 epoch
    assert load_teachers("halves", images(144, seed=9), tmp_path, lambda _d, _t: None).identity != first


def test_the_papers_numbers_of_teachers_and_its_noise_for_every_network_victim():
    assert set(TEACHERS) >= set(VICTIMS)
    stated = {name: (one.count, one.sigma, one.delta) for name, one in TEACHERS.items() if name in VICTIMS}
    assert stated == {
        **dict.fromkeys(("mnist", "fashion"), (250, 10.0, 1e-5)),
        "svhn": (250, 10.0, 1e-6),
        **dict.fromkeys(("cifar10", "cifar10-resnet34"), (50, 2.0, 1e-5)),
    }
    sizes = {
        name: sum(parameter.numel() for parameter in build(TEACHERS[name].training).parameters())
        for name in ("mnist", "cifar10", "cifar10-resnet34")
    }
    assert sizes == {"mnist": 431_080, "cifar10": 75_290, "cifar10-resnet34": 11_173_962}
