"""The demo's data: no part overlaps another, and the same seed gives the same world."""

import numpy as np
import pytest

from modeltoll.bench.datasets import DATA_VARIABLE, DataError
from modeltoll.demo.data import SHORT, WORLDS, DataSizes
from modeltoll.demo.scenario import thief_tasks


@pytest.fixture(scope="module")
def world():
    return WORLDS["digits"](SHORT, None, np.random.default_rng(0))


def test_parts_have_one_width_and_the_range_of_pixels(world):
    for rows in (world.private_x, world.calibration, world.test_x, world.honest, world.pictures, world.noise):
        assert rows.ndim == 2
        assert rows.shape[1] == 64
        assert rows.min() >= 0.0
        assert rows.max() <= 1.0


def test_private_calibration_and_test_rows_are_all_the_digits_once(world):
    assert len(world.private_x) + len(world.calibration) + len(world.test_x) == 1797
    assert len(world.honest) == SHORT.honest
    assert np.array_equal(world.honest, world.test_x[: SHORT.honest])


def test_the_same_seed_gives_the_same_world(world):
    again = WORLDS["digits"](SHORT, None, np.random.default_rng(0))
    assert np.array_equal(world.pictures, again.pictures)
    assert np.array_equal(world.private_x, again.private_x)
    other = WORLDS["digits"](SHORT, None, np.random.default_rng(1))
    assert not np.array_equal(world.pictures, other.pictures)


def test_mnist_without_its_files_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.delenv(DATA_VARIABLE, raising=False)
    with pytest.raises(DataError, match="--data-dir"):
        WORLDS["mnist"](SHORT, None, np.random.default_rng(0))
    with pytest.raises(DataError, match="mnist"):
        WORLDS["mnist"](SHORT, tmp_path, np.random.default_rng(0))


def test_thieves_spread_and_dilute_the_same_pictures(world):
    sizes = DataSizes(pictures=20, noise=5, diluted=4, fillers=2, accounts=5)
    small = WORLDS["digits"](sizes, None, np.random.default_rng(0))
    errands = {errand.name: errand for errand in thief_tasks(small, small.test_x[0], sizes, np.random.default_rng(0))}
    spread = [question.key for question in errands["spread"].questions]
    assert len(set(spread)) == 5
    assert all(spread.count(key) == 4 for key in spread)
    for name in ("repeated", "jittered"):
        errand = errands[name]
        assert errand.wanted.tolist() == [False, False, True] * 4
        assert np.array_equal(errand.rows[errand.wanted], small.pictures[:4])
    assert len(np.unique(errands["repeated"].rows[~errands["repeated"].wanted], axis=0)) == 1
    jittered = errands["jittered"].rows[~errands["jittered"].wanted]
    assert len(np.unique(jittered, axis=0)) == 8
    assert np.abs(jittered - small.test_x[0]).max() <= 1 / small.levels + 1e-12
