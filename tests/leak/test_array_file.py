"""Files of fitted measures: damage, other versions and other kinds are refused; nothing is unpickled."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from modeltoll.errors import CalibrationError
from modeltoll.leak import array_file
from modeltoll.leak.array_file import load_arrays, save_arrays
from modeltoll.leak.novelty import NoveltyMeasure
from modeltoll.leak.pknn import PknnMeasure
from modeltoll.leak.teachers.fit_sklearn import TeacherEnsemble, TeacherPlan, fit_teachers

ARRAYS = {"a": np.arange(6.0).reshape(2, 3), "names": np.array(["x", "yz"]), "k": np.array(3), "none": np.empty((0, 2))}


def test_what_is_loaded_has_the_bits_that_were_saved(tmp_path):
    save_arrays(tmp_path / "f.npz", "things", ARRAYS)
    loaded = load_arrays(tmp_path / "f.npz", "things")
    assert set(loaded) == set(ARRAYS)
    for name, array in ARRAYS.items():
        assert loaded[name].dtype == array.dtype
        assert loaded[name].shape == array.shape
        assert loaded[name].tobytes() == array.tobytes()


def test_saving_twice_writes_the_same_file_and_leaves_no_other(tmp_path):
    for name in ("one.npz", "two.npz", "two.npz"):
        save_arrays(tmp_path / name, "things", ARRAYS)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["one.npz", "two.npz"]


def test_every_damaged_byte_is_noticed_or_harmless(tmp_path):
    """A flipped byte is detected, unless it is in a field of the archive without data."""
    path = tmp_path / "f.npz"
    save_arrays(path, "things", ARRAYS)
    good = path.read_bytes()
    refused = 0
    for place in range(0, len(good), 7):
        path.write_bytes(good[:place] + bytes([good[place] ^ 0x55]) + good[place + 1 :])
        try:
            loaded = load_arrays(path, "things")
        except CalibrationError:
            refused += 1
        else:
            assert all(np.array_equal(loaded[name], array) for name, array in ARRAYS.items())
    assert refused > 50


@pytest.mark.parametrize("part", [0, 1, 100, -1])
def test_a_truncated_file_is_refused(tmp_path, part):
    path = tmp_path / "f.npz"
    save_arrays(path, "things", ARRAYS)
    path.write_bytes(path.read_bytes()[:part])
    with pytest.raises(CalibrationError):
        load_arrays(path, "things")


def test_a_changed_number_is_noticed_by_the_checksum(tmp_path):
    path = tmp_path / "f.npz"
    save_arrays(path, "things", ARRAYS)
    with np.load(path) as file:
        members = dict(file)
    np.savez(path, **members | {"a": members["a"] + 1})
    with pytest.raises(CalibrationError, match="checksum"):
        load_arrays(path, "things")


def test_another_kind_version_or_a_foreign_file_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "f.npz"
    save_arrays(path, "things", ARRAYS)
    with pytest.raises(CalibrationError, match="a things file where a novelty file"):
        load_arrays(path, "novelty")
    monkeypatch.setattr(array_file, "VERSION", 2)
    with pytest.raises(CalibrationError, match="version 1"):
        load_arrays(path, "things")
    np.savez(path, a=np.zeros(3))
    with pytest.raises(CalibrationError, match="is not a things file"):
        load_arrays(path, "things")
    with pytest.raises(CalibrationError, match="no things file"):
        load_arrays(tmp_path / "missing.npz", "things")
    np.save(tmp_path / "f.npy", np.zeros(3))
    with pytest.raises(CalibrationError):
        load_arrays(tmp_path / "f.npy", "things")
    with pytest.raises(CalibrationError):
        load_arrays(tmp_path, "things")


def test_a_pickle_is_not_opened(tmp_path):
    path = tmp_path / "f.npz"
    np.savez(path, a=np.array([{"an": "object"}], dtype=object))
    with pytest.raises(CalibrationError):
        load_arrays(path, "things")
    with pytest.raises(ValueError, match="objects"):
        save_arrays(path, "things", {"a": np.array([{}], dtype=object)})


def saved(tmp_path, kind):
    rng = np.random.default_rng(0)
    path = tmp_path / f"{kind}.npz"
    if kind == "novelty":
        NoveltyMeasure(rng.normal(size=(20, 3))).save(path)
    elif kind == "pknn":
        PknnMeasure(rng.normal(size=(20, 3)), np.arange(20) % 3, 5).save(path)
    else:
        labels = np.arange(40) % 3
        plan = TeacherPlan(3, lambda seed: LogisticRegression(random_state=seed))
        fit_teachers(rng.normal(size=(40, 2)), labels, plan).save(path)
    return path


LOADERS = {"novelty": NoveltyMeasure.load, "pknn": PknnMeasure.load, "teachers": TeacherEnsemble.load}
CHANGES = [
    ("novelty", {"spread": np.ones(4)}),
    ("novelty", {"points": np.ones(3)}),
    ("pknn", {"labels": np.zeros(20, dtype=int)}),
    ("pknn", {"points": np.zeros((3, 3))}),
    ("pknn", {"k": np.arange(2)}),
    ("teachers", {"biases0": np.zeros((3, 2))}),
    ("teachers", {"weights0": np.zeros((2, 3, 4))}),
    ("teachers", {"weights0": np.zeros((2, 3))}),
    ("teachers", {"weights0": np.zeros((3, 2, 3))}),
    ("teachers", {"classes": np.arange(2)}),
    ("teachers", {"activation": np.array("step")}),
]


@pytest.mark.parametrize(("kind", "change"), CHANGES)
def test_a_file_whose_arrays_do_not_match_is_refused(tmp_path, kind, change):
    path = saved(tmp_path, kind)
    save_arrays(path, kind, load_arrays(path, kind) | change)
    with pytest.raises(CalibrationError):
        LOADERS[kind](path)


@pytest.mark.parametrize("kind", LOADERS)
def test_a_file_that_lacks_an_array_is_refused(tmp_path, kind):
    path = saved(tmp_path, kind)
    arrays = load_arrays(path, kind)
    for name in arrays:
        save_arrays(path, kind, {n: a for n, a in arrays.items() if n != name})
        with pytest.raises(CalibrationError):
            LOADERS[kind](path)
