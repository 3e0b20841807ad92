"""The demo's data: the parts are disjoint, and the same seed gives the same data."""

import numpy as np
import pytest

from modeltoll.bench.datasets import DATA_VARIABLE, DataError
from modeltoll.demo.data import DATA_LOADERS, SHORT_SIZES, DataSizes
from modeltoll.demo.scenario import BANK, FRESH, HONEST, SHIFTED, SPECIALIST, honest_tasks, thief_tasks


@pytest.fixture(scope="module")
def data():
    return DATA_LOADERS["digits"](SHORT_SIZES, None, np.random.default_rng(0))


def test_parts_have_one_width_and_the_range_of_pixels(data):
    for rows in (data.private_x, data.calibration, data.test_x, data.honest, data.pictures, data.noise, data.known):
        assert rows.ndim == 2
        assert rows.shape[1] == 64
        assert rows.min() >= 0.0
        assert rows.max() <= 1.0


def test_private_calibration_and_test_rows_are_all_the_digits_once(data):
    assert len(data.private_x) + len(data.calibration) + len(data.test_x) == 1797
    assert len(data.honest) == SHORT_SIZES.honest
    assert np.array_equal(data.honest, data.test_x[: SHORT_SIZES.honest])


def test_the_same_seed_gives_the_same_data(data):
    again = DATA_LOADERS["digits"](SHORT_SIZES, None, np.random.default_rng(0))
    assert np.array_equal(data.pictures, again.pictures)
    assert np.array_equal(data.private_x, again.private_x)
    other = DATA_LOADERS["digits"](SHORT_SIZES, None, np.random.default_rng(1))
    assert not np.array_equal(data.pictures, other.pictures)


def test_the_operators_pictures_are_none_of_the_thieves(data):
    known = {row.tobytes() for row in data.known}
    assert len(known) == SHORT_SIZES.strangers
    assert not known & {row.tobytes() for row in data.pictures}


def test_one_honest_caller_has_all_classes_one_has_one_and_one_sends_the_declared_kind(data):
    tasks = {task.name: task for task in honest_tasks(data, SHORT_SIZES)}
    label_of = {row.tobytes(): label for row, label in zip(data.test_x, data.test_y, strict=True)}
    assert len({label_of[row.tobytes()] for row in tasks[HONEST].rows}) == 10
    assert len({label_of[row.tobytes()] for row in tasks[SPECIALIST].rows}) == 1
    shifted = tasks[SHIFTED].rows
    assert len(shifted) == SHORT_SIZES.shifted
    assert not any(row.tobytes() in label_of for row in shifted)
    assert np.allclose(shifted, data.of_kind(data.test_x[::-1][: SHORT_SIZES.shifted]))
    assert all(task.wanted.all() for task in tasks.values())


def test_mnist_without_its_files_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.delenv(DATA_VARIABLE, raising=False)
    with pytest.raises(DataError, match="--data-dir"):
        DATA_LOADERS["mnist"](SHORT_SIZES, None, np.random.default_rng(0))
    with pytest.raises(DataError, match="mnist"):
        DATA_LOADERS["mnist"](SHORT_SIZES, tmp_path, np.random.default_rng(0))


def test_thieves_spread_and_dilute_the_same_pictures(data):
    sizes = DataSizes(pictures=20, plain=10, noise=5, diluted=4, fillers=2, covered=6, bank=7, banked=3, accounts=5)
    small = DATA_LOADERS["digits"](sizes, None, np.random.default_rng(0))
    tasks = {task.name: task for task in thief_tasks(small, small.test_x[0], sizes, np.random.default_rng(0))}
    spread = [request.key for request in tasks["spread"].requests]
    assert len(set(spread)) == 5
    assert all(spread.count(key) == 4 for key in spread)
    for name in ("repeated", "jittered"):
        task = tasks[name]
        assert task.wanted.tolist() == [False, False, True] * 4
        assert np.array_equal(task.rows[task.wanted], small.pictures[:4])
    assert len(np.unique(tasks["repeated"].rows[~tasks["repeated"].wanted], axis=0)) == 1
    jittered = tasks["jittered"].rows[~tasks["jittered"].wanted]
    assert len(np.unique(jittered, axis=0)) == 8
    assert np.abs(jittered - small.test_x[0]).max() <= 1 / small.levels + 1e-12
    assert len(tasks["pictures"].rows) == 10
    fresh = tasks[FRESH]
    assert fresh.wanted.tolist() == [False, False, True] * 6
    assert len(np.unique(fresh.rows, axis=0)) == len(fresh.rows), "no filler is sent twice"
    assert tasks[BANK].wanted.tolist() == [False] * 7 + [True] * 3
    assert np.array_equal(tasks[BANK].rows[:7], small.test_x[:7])
