"""Targets split their images into disjoint parts of one shape, and cache what they train."""

from __future__ import annotations

import gzip
import struct
from dataclasses import replace

import numpy as np
import pytest

from modeltoll.bench.data_split import SplitSizes, mirrored, shifted, split_images
from modeltoll.bench.datasets import Images
from modeltoll.bench.prepared_target import Workspace
from modeltoll.bench.targets import TARGETS
from modeltoll.testing.bench_plugins import check_victim

RNG = np.random.default_rng(0)


def keys(images):
    return {image.tobytes() for image in images}


@pytest.mark.parametrize("name", ["digits", "cells"])
def test_the_parts_of_a_target_are_disjoint(name, tmp_path):
    prepared = TARGETS[name].prepare(Workspace(None, tmp_path), lambda _done, _most: None)
    data_split = prepared.data_split
    parts = [
        data_split.private.x,
        data_split.calibration.x,
        data_split.honest.x,
        data_split.own,
        data_split.foreign.x,
        data_split.unseen_foreign,
    ]
    assert len({part.shape[1:] for part in parts}) == 1
    assert all(((part >= 0.0) & (part <= 1.0)).all() for part in parts)
    seen: set[bytes] = set()
    for part in parts:
        assert not seen & keys(part), "an image is in two parts"
        seen |= keys(part)
    assert prepared.classes == int(data_split.private.y.max()) + 1
    assert len(data_split.own) >= TARGETS[name].queries
    assert len(data_split.foreign.x) >= TARGETS[name].queries
    check_victim(prepared.victim, data_split.honest.x[:5])


@pytest.mark.parametrize("foreign", ["", "noise"])
def test_no_attacker_has_an_image_of_the_strangers_that_the_operator_knows(foreign, tmp_path):
    """Also where the attacker's images are of another source: its strangers are those that this source keeps back."""
    usual = TARGETS["digits"].prepare(Workspace(None, tmp_path), lambda _done, _most: None)
    attacked = TARGETS["digits"].prepare(Workspace(None, tmp_path, foreign), lambda _done, _most: None)
    strangers = usual.strangers()
    assert set(strangers) == {TARGETS["digits"].foreign, "noise"}
    stolen = keys(attacked.data_split.foreign.x)
    for family, images in strangers.items():
        assert len(images) == 200
        assert not keys(images) & stolen, family


def test_a_target_is_the_same_every_time(tmp_path):
    targets = [TARGETS["digits"].prepare(Workspace(None, tmp_path), lambda _done, _most: None) for _ in range(2)]
    assert targets[0].victim.identity == targets[1].victim.identity
    assert np.array_equal(targets[0].data_split.own, targets[1].data_split.own)


def test_split_images_are_complete_and_disjoint():
    unseen = Images(RNG.random((30, 3, 3)), np.arange(30))
    parts = split_images(unseen, SplitSizes(10, 15, 0), RNG)
    assert [len(part.y) for part in parts] == [10, 15, 5]
    assert sorted(np.concatenate([part.y for part in parts])) == list(range(30))
    assert all(np.array_equal(part.x, unseen.x[part.y]) for part in parts)


def test_augmented_images_begin_with_the_originals_and_keep_their_shape():
    for images in (RNG.random((4, 6, 6)), RNG.random((4, 6, 6, 3))):
        for augment, factor in ((shifted, 5), (mirrored, 4)):
            augmented = augment(images)
            assert augmented.shape == (4 * factor, *images.shape[1:])
            assert np.array_equal(augmented[:4], images)
    image = np.zeros((1, 3, 3))
    image[0, 1, 1] = 1.0
    places = [tuple(np.argwhere(copy)[0]) for copy in shifted(image)]
    assert places == [(1, 1), (0, 1), (2, 1), (1, 0), (1, 2)]


def idx(array):
    return struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def halves(count):
    """Two classes: images with bright upper or lower halves, as bytes."""
    labels = (np.arange(count) % 2).astype(np.uint8)
    x = RNG.integers(0, 100, (count, 28, 28), np.uint8)
    x[labels == 0, :14] += 150
    x[labels == 1, 14:] += 150
    return x, labels


@pytest.mark.torch
def test_a_published_target_trains_what_it_needs_once(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    from modeltoll.bench.victims import teachers  # noqa: PLC0415  torch first

    few = replace(teachers.TEACHERS["mnist"], count=5, sigma=1.0)
    few = replace(few, training=replace(few.training, epochs=2))
    monkeypatch.setitem(teachers.TEACHERS, "mnist", few)
    (tmp_path / "mnist").mkdir()
    for part, count in (("train", 600), ("t10k", 7600)):
        x, y = halves(count)
        (tmp_path / "mnist" / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(x), 1))
        (tmp_path / "mnist" / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(y), 1))
    natural = RNG.integers(0, 256, (1200, 32, 32, 3), np.uint8)
    np.savez(tmp_path / "tiny-imagenet-32.npz", x=natural, y=np.arange(1200) % 7)
    workspace, steps = Workspace(tmp_path, tmp_path / "cache"), []
    prepared = TARGETS["mnist"].prepare(workspace, lambda done, _most: steps.append(done))
    assert steps
    novelties = {"novelty", "novelty:clean"}
    assert set(prepared.leak_measures) == {
        *("entropy", "gap", "logit-gap", *novelties),
        *("pknn", "pknn-eps", "pknn-agreement"),
    }
    assert not list((tmp_path / "cache").glob("teachers*"))
    steps.clear()
    assert set(prepared.vote_measures(lambda done, _most: steps.append(done))) == {"pate", "pate-cost"}
    assert steps
    prepared.vote_measures(lambda _done, _most: pytest.fail("they were trained before"))
    assert [
        len(prepared.data_split.calibration.x),
        len(prepared.data_split.honest.x),
        len(prepared.data_split.own),
    ] == [3500, 100, 20_000]
    assert [prepared.data_split.foreign.x.shape, prepared.data_split.unseen_foreign.shape] == [
        (200, 28, 28),
        (1000, 28, 28),
    ]
    check_victim(prepared.victim, prepared.data_split.honest.x[:4])
    again = TARGETS["mnist"].prepare(workspace, lambda _done, _most: pytest.fail("it was trained before"))
    assert again.victim.identity == prepared.victim.identity
