"""Layered novelty: the law of measures, what its scale means, and files that are checked."""

from __future__ import annotations

import numpy as np
import pytest

from modeltoll.errors import CalibrationError, RequestError
from modeltoll.leak.layered import LayeredNovelty, load_novelty
from modeltoll.leak.novelty import NoveltyMeasure
from modeltoll.leak.stack import Layer, Stack
from modeltoll.leak.store import load_arrays, save_arrays
from modeltoll.records import Evidence
from modeltoll.testing.measures import check_measure


def stack():
    """Two full layers and a last one, over rows of eight numbers."""
    rng = np.random.default_rng(0)
    sizes = [(8, 6), (6, 5), (5, 3)]
    layers = [Layer(rng.normal(size=(1, i, o)).astype(np.float32), np.ones((1, o), np.float32)) for i, o in sizes]
    return Stack(tuple(layers), (1, 1, 8))


def normal(count, seed=0):
    return np.random.default_rng(seed).normal(size=(count, 8))


def evidence_of(inputs):
    return Evidence(tuple(i.to_bytes(8, "big") for i in range(len(inputs))), inputs=inputs)


def test_it_keeps_the_law_of_measures():
    check_measure(LayeredNovelty(stack(), normal(200)), evidence_of(normal(20, 1) * 3))


def test_one_is_usual_two_is_rare_and_farther_is_more():
    measure = LayeredNovelty(stack(), normal(3000))
    fresh = measure.measure(evidence_of(normal(1000, 5)))
    assert 0.8 < np.median(fresh) < 1.6
    assert 0.003 < (fresh > 2.0).mean() < 0.1
    far = measure.measure(evidence_of(np.array([1.0, 10.0, 100.0])[:, None] * np.abs(normal(1, 2))))
    assert (np.diff(far) > 0).all()


def test_a_saved_measure_gives_the_same_bits_and_either_novelty_is_found_in_a_file(tmp_path):
    path, inputs = tmp_path / "novelty.npz", normal(50, 3) * 2
    measure = LayeredNovelty(stack(), normal(200))
    measure.save(path)
    assert np.array_equal(load_novelty(path).measure(evidence_of(inputs)), measure.measure(evidence_of(inputs)))
    plain = NoveltyMeasure(normal(200))
    plain.save(path)
    assert np.array_equal(load_novelty(path).measure(evidence_of(inputs)), plain.measure(evidence_of(inputs)))
    with pytest.raises(CalibrationError):
        load_novelty(tmp_path / "missing.npz")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda a: a.pop("layer1_points"),
        lambda a: a.update(layer0_centre=np.zeros(5)),
        lambda a: a.update(layer0_usual=np.array(0.0)),
        lambda a: a.update(layer0_far=a["layer0_usual"]),
        lambda a: a.update(k=np.array(0)),
        lambda a: a.update(k=np.array(200)),
        lambda a: a.pop("kernel0"),
    ],
)
def test_files_whose_arrays_do_not_fit_are_refused(tmp_path, spoil):
    path = tmp_path / "novelty.npz"
    LayeredNovelty(stack(), normal(200)).save(path)
    arrays = load_arrays(path, "layered novelty")
    spoil(arrays)
    save_arrays(path, "layered novelty", arrays)
    with pytest.raises(CalibrationError):
        LayeredNovelty.load(path)


@pytest.mark.parametrize("private", [np.ones((50, 8)), np.ones((50, 7)), np.full((50, 8), np.nan), normal(5)])
def test_private_data_that_says_nothing_is_refused(private):
    with pytest.raises(CalibrationError):
        LayeredNovelty(stack(), private)


@pytest.mark.parametrize("inputs", [np.full((1, 8), np.inf), np.ones((1, 7)), np.full((1, 8), 1e100)])
def test_inputs_that_cannot_be_seen_are_refused(inputs):
    with pytest.raises(RequestError):
        LayeredNovelty(stack(), normal(100)).measure(evidence_of(inputs))
