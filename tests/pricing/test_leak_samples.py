"""Recorded leaks: they read back exactly, and invalid ones are refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from modeltoll.errors import CalibrationError, SettingsError
from modeltoll.pricing.leak_samples import (
    count_training_rows,
    first_occurrences,
    measures_of,
    parse_leaks,
    read_leaks,
    save_leaks,
    select_measures,
    thief_samples,
)
from modeltoll.records import Leaks

NAMES = ("entropy", "novelty")
ROWS = np.random.default_rng(0).lognormal(size=(20, 2))


def test_a_file_of_samples_reads_back_exactly(tmp_path):
    path = tmp_path / "leaks.npz"
    save_leaks(path, NAMES, {"honest": ROWS, "thief": 2 * ROWS})
    samples = read_leaks(path)
    assert {name: leaks.measures for name, leaks in samples.items()} == {"honest": NAMES, "thief": NAMES}
    assert np.array_equal(samples["thief"].values, 2 * ROWS)
    assert list(thief_samples(path)) == ["thief"]
    assert measures_of(path) == NAMES


def test_one_measure_needs_no_second_dimension(tmp_path):
    path = tmp_path / "leaks.npz"
    save_leaks(path, ("entropy",), {"honest": np.arange(3)})
    assert read_leaks(path)["honest"].values.tolist() == [[0.0], [1.0], [2.0]]


@pytest.mark.parametrize(
    ("members", "fault"),
    [
        ({"honest": ROWS}, "must hold 'measures'"),
        ({"measures": np.array([1, 2]), "honest": ROWS}, "must hold 'measures'"),
        ({"measures": np.array(NAMES)}, "holds no samples"),
        ({"measures": np.array(NAMES), "honest": ROWS[:, :1]}, r"'honest' must hold numbers of shape \(rows, 2\)"),
        ({"measures": np.array(NAMES), "honest": ROWS[:0]}, "'honest' must hold"),
        ({"measures": np.array(NAMES), "honest": ROWS.astype(str)}, "'honest' must hold"),
        ({"measures": np.array(NAMES), "honest": -ROWS}, "'honest' holds leaks that are negative"),
        (
            {"measures": np.array(NAMES), "honest": ROWS * np.nan},
            "'honest' holds leaks that are negative or not finite",
        ),
    ],
)
def test_invalid_samples_are_refused_by_name(tmp_path, members, fault):
    path = tmp_path / "leaks.npz"
    np.savez(path, **members)
    with pytest.raises(CalibrationError, match=f"leaks.npz:? .*{fault}|leaks.npz {fault}"):
        read_leaks(path)


def test_what_is_no_archive_is_refused(tmp_path):
    (tmp_path / "text.npz").write_text("measures: entropy")
    np.save(tmp_path / "array.npy", ROWS)
    np.savez(tmp_path / "pickle.npz", measures=np.array(NAMES), honest=np.array([{}], dtype=object))
    for name in ("absent.npz", "text.npz", "array.npy", "pickle.npz"):
        with pytest.raises(CalibrationError, match=f"{name} cannot be read"):
            read_leaks(tmp_path / name)


def test_only_honest_samples_are_no_thieves(tmp_path):
    save_leaks(tmp_path / "leaks.npz", NAMES, {"honest": ROWS, "calibration": ROWS})
    with pytest.raises(CalibrationError, match="only honest ones"):
        thief_samples(tmp_path / "leaks.npz")


def test_measures_are_chosen_by_name_in_the_order_asked_for():
    assert np.array_equal(select_measures(Leaks(NAMES, ROWS), ("novelty", "entropy")).values, ROWS[:, ::-1])
    with pytest.raises(CalibrationError, match="leaks of gap were not recorded; there are those of entropy, novelty"):
        select_measures(Leaks(NAMES, ROWS), ("entropy", "gap"))


def test_a_row_is_given_once_for_each_measure():
    assert parse_leaks(["novelty=2", "entropy=0.5"], NAMES).values.tolist() == [[0.5, 2.0]]
    for wrong in (
        ["entropy=1"],
        ["entropy=1", "novelty=x"],
        ["entropy=1", "entropy=1"],
        ["entropy=1", "novelty=nan"],
        ["entropy=1", "novelty=-1"],
        ["entropy=1", "novelty=1", "gap=1"],
        ["entropy"],
    ):
        with pytest.raises(SettingsError):
            parse_leaks(wrong, NAMES)


@given(
    arrays.arrays(
        np.float64, st.tuples(st.integers(0, 20), st.just(2)), elements=st.sampled_from([0.0, -0.0, 1.0, 2.0])
    )
)
def test_copies_are_found_and_the_first_of_each_is_kept(rows):
    places = first_occurrences(rows)
    assert np.array_equal(places, np.sort(np.unique(rows, axis=0, return_index=True)[1]))
    assert count_training_rows(rows, rows) == len(rows)
    assert count_training_rows(rows + 5.0, rows) == 0
    assert count_training_rows(rows, rows[:, :1]) == 0
