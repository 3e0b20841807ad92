"""What novelty does to inputs: any scale, constant columns, missing values, channels in front, codes and texts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeltoll.errors import CalibrationError
from modeltoll.leak.input_transform import HashedCodes, Standardised, byte_rows, hold_codes, transform_of_arrays
from modeltoll.leak.private_rows import private_rows, shape_of_sides


def rng(seed=0):
    return np.random.default_rng(seed)


def table(rows=200):
    return rng().normal(size=(rows, 5)) * [1.0, 10.0, 1e6, 1e-6, 1.0] + [0.0, 50.0, -3e6, 1.0, 7.0]


@given(st.floats(1e-8, 1e8), st.floats(-1e3, 1e3))
@settings(max_examples=30, deadline=None)
def test_a_columns_unit_and_origin_do_not_matter(unit, origin):
    rows = table()
    moved = (rows + origin * rows.std(axis=0)) * unit
    result = Standardised.fit(moved, (1, 1, 5)).apply(moved)
    assert np.allclose(result, Standardised.fit(rows, (1, 1, 5)).apply(rows), atol=1e-3)


def test_columns_of_a_table_have_mean_0_and_deviation_1():
    result = Standardised.fit(table(), (1, 1, 5)).apply(table())
    assert result.mean(axis=0) == pytest.approx(np.zeros(5), abs=1e-9)
    assert result.std(axis=0) == pytest.approx(np.ones(5))


@pytest.mark.parametrize("scale", [1.0, 255.0, 65535.0])
def test_pixels_keep_their_relative_distances(scale):
    images = rng().integers(0, 256, (50, 8 * 8)) / 255.0 * (np.arange(64) > 8)  # with constant pixels
    result = Standardised.fit(images * scale, (8, 8, 1)).apply(images * scale)
    ours, theirs = (np.linalg.norm(rows[0] - rows, axis=1) for rows in (result, images))
    assert ours == pytest.approx(theirs * np.median(ours) / np.median(theirs))


def test_many_columns_of_one_unit_keep_their_relative_distances_without_being_called_an_image():
    for rows in (rng().integers(0, 256, (60, 64)) * (np.arange(64) > 8.0), rng().normal(size=(60, 64)) * 1e5):
        result = Standardised.fit(rows, (1, 1, 64)).apply(rows)
        ours, theirs = (np.linalg.norm(each[0] - each, axis=1) for each in (result, rows))
        assert ours == pytest.approx(theirs * np.median(ours) / np.median(theirs))


@pytest.mark.parametrize("value", [0.0, 7.0, 1e12, -1e-12])
def test_another_value_in_a_constant_column_is_seen(value):
    rows = table()
    rows[:, 4] = value
    transform = Standardised.fit(rows, (1, 1, 5))
    assert (transform.apply(rows)[:, 4] == 0.0).all()
    changed = rows[:1].copy()
    changed[0, 4] = 2.0 * value + (value == 0.0)
    assert abs(transform.apply(changed)[0, 4]) == pytest.approx(1.0)


@given(st.lists(st.floats(-1e100, 1e100), min_size=2, max_size=20))
def test_order_is_kept_and_no_number_is_too_large(numbers):
    rows = np.zeros((len(numbers), 5))
    rows[:, 1] = np.sort(numbers)
    result = Standardised.fit(table(), (1, 1, 5)).apply(rows)
    assert (np.diff(result[:, 1]) >= 0.0).all()
    assert np.abs(result).max() < 1e4


def test_channels_are_put_last():
    images = rng().random((20, 6, 8, 3))
    last, first = images.reshape(20, -1), np.moveaxis(images, 3, 1).reshape(20, -1)
    ours, theirs = Standardised.fit(first, (3, 6, 8)), Standardised.fit(last, (6, 8, 3))
    assert ours.shape == theirs.shape == (6, 8, 3)
    assert ours.apply(first) == pytest.approx(theirs.apply(last))


def test_a_missing_value_is_its_columns_centre_and_an_indicator_and_strange_where_none_was_missing():
    rows = table()
    rows[::4, 1] = np.nan
    transform = Standardised.fit(rows, (1, 1, 5))
    result = transform.apply(rows)
    assert transform.shape == (1, 1, 6)
    assert (result[::4, 1] == 0.0).all()
    assert result[::4, 5] == pytest.approx(0.75 / np.sqrt(0.25 * 0.75))
    assert result[1::4, 5] == pytest.approx(-0.25 / np.sqrt(0.25 * 0.75))
    rows[0, 2] = np.nan
    assert transform.apply(rows)[0, 2] == 10.0


def test_a_column_of_missing_values_only_is_standardised():
    rows = table()
    rows[:, 3] = np.nan
    assert np.isfinite(Standardised.fit(rows, (1, 1, 5)).apply(rows)).all()


@pytest.mark.parametrize(
    "transform",
    [Standardised.fit(table(), (1, 1, 5)), Standardised.fit(rng().random((9, 48)), (3, 4, 4)), HashedCodes(5)],
)
def test_a_transform_is_restored_from_its_arrays(transform):
    rows = rng(3).normal(size=(10, transform.width)) * 9.0
    assert np.array_equal(transform_of_arrays(transform.arrays()).apply(rows), transform.apply(rows))
    assert transform_of_arrays(transform.arrays()).shape == transform.shape
    alone = np.concatenate([transform.apply(rows[i : i + 1]) for i in range(10)])
    assert np.array_equal(alone, transform.apply(rows))


def test_arrays_that_are_missing_are_refused():
    with pytest.raises(CalibrationError, match="fit it anew"):
        transform_of_arrays({})


def test_hashed_rows_have_one_length_and_depend_on_pairs_not_on_places():
    """Two texts of the same pairs have nearly the same features; the same letters in another order have not."""
    transform = HashedCodes(40)
    word, other = rng().integers(0, 256, (2, 8))
    same, moved, shuffled = np.tile(word, 5), np.roll(np.tile(word, 5), 3), rng(1).permutation(np.tile(word, 5))
    rows = transform.apply(np.array([same, moved, shuffled, np.tile(other, 5)], float))
    assert np.linalg.norm(rows, axis=1) == pytest.approx(np.full(4, 32.0))
    cosines = rows[1:] @ rows[0] / 1024.0
    assert cosines[0] > 0.9
    assert cosines[1] < 0.7
    assert cosines[2] < 0.2


def test_beginning_and_end_are_told_apart():
    row = np.concatenate([np.full(50, 1.0), np.full(50, 2.0)])
    first, second = HashedCodes(100).apply(np.array([row, row[::-1]]))
    assert first @ second < 0.1 * (first @ first)


@pytest.mark.parametrize("codes", [[-5.0], [np.nan], [1e100], [0.4, 255.6], [256.0] * 7])
def test_any_number_is_a_code(codes):
    assert np.isfinite(HashedCodes(len(codes)).apply(np.array([codes]))).all()


def test_texts_become_the_codes_of_their_first_and_last_bytes():
    short, long, none = byte_rows(["née", b"\x00" * 1500 + b"\xff" * 1500, ""])
    assert short[:5].tolist() == [*"née".encode(), 256.0]
    assert short[-4:].tolist() == list("née".encode())
    assert set(long[:1024]) == {0.0}
    assert set(long[1024:]) == {255.0}
    assert (none == 256.0).all()


def test_codes_are_recognised_where_numbers_can_be_no_pixels():
    wide = rng().integers(0, 257, (200, 32))
    wide[0] = 256
    assert hold_codes(wide, (1, 1, 32))
    assert not hold_codes(wide, (4, 8, 1))
    assert not hold_codes(np.minimum(wide, 255), (1, 1, 32))
    assert not hold_codes(wide.astype(float), (1, 1, 32))
    assert not hold_codes(wide[:, :8], (1, 1, 8))
    assert not hold_codes(wide - 1, (1, 1, 32))


def test_private_rows_are_read_from_arrays_of_any_shape():
    assert private_rows(np.zeros((3, 4, 5))).shape == (4, 5, 1)
    assert private_rows(np.zeros((3, 4, 5, 2))).inputs.shape == (3, 40)
    assert private_rows(np.zeros((3, 2, 2, 2, 2))).shape == (1, 1, 16) == shape_of_sides((16,))
    texts = private_rows(np.array(["a", "bc"]))
    assert texts.codes
    assert texts.inputs.shape == (2, 2048)
    assert isinstance(texts.fitted_transform(), HashedCodes)
    assert private_rows(np.array([b"a", b"bc"])).codes
    assert private_rows(np.zeros((3, 4), np.uint8), codes=True).codes
    for unusable in (np.zeros(3), np.zeros((0, 3)), np.array([["a"]]), np.array(["a"]), np.zeros((2, 2), complex)):
        with pytest.raises(CalibrationError):
            private_rows(unusable, codes=False)
