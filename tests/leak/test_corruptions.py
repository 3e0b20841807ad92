"""Kinds of honest rows: their names, that they are pure and stay in range, and what each of them does."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeltoll.bench.datasets import digits
from modeltoll.errors import SettingsError
from modeltoll.leak import table_corruptions
from modeltoll.leak.corruptions import (
    FAMILIES,
    PHOTO_KINDS,
    TABLE_KINDS,
    Corruption,
    apply,
    is_image,
    parse_kinds,
    value_range,
)
from modeltoll.leak.strangers import NOISE, PERMUTED_PIXELS, SHUFFLED_COLUMNS, STRANGERS, strange_rows

PILLOW = importlib.util.find_spec("PIL") is not None
IMAGES = [name for name, family in FAMILIES.items() if family.images and (name != "jpeg" or PILLOW)]
TABLES = [name for name, family in FAMILIES.items() if not family.images]
SHAPE = (28, 20, 3)


def rng(seed=0):
    return np.random.default_rng(seed)


def smooth(count=12, shape=SHAPE, seed=0):
    """Images of slopes in 0..1, one row each."""
    height, width, channels = shape
    slope = (np.linspace(0.1, 0.9, height)[:, None] * np.linspace(1.0, 0.4, width) ** 2)[..., None]
    return np.clip(slope[None] * rng(seed).uniform(0.6, 1.1, (count, 1, 1, channels)), 0.0, 1.0).reshape(count, -1)


def one(family, strength=None):
    return Corruption(family, FAMILIES[family].strengths[-1] if strength is None else strength)


def table(rows=300):
    source = rng(4)
    columns = [
        source.normal(50, 7, rows),
        source.integers(0, 5, rows),
        source.integers(18, 95, rows),
        np.full(rows, 3.0),
    ]
    return np.stack(columns, axis=1).astype(np.float64)


def test_a_name_stands_for_its_usual_strengths_and_a_strength_for_itself():
    assert parse_kinds("rotate:25, blur") == (
        Corruption("rotate", 25.0),
        *(one("blur", s) for s in (0.018, 0.033, 0.05)),
    )
    assert parse_kinds("none") == ()
    assert {kind.family for kind in parse_kinds("photo")} == set(PHOTO_KINDS.split(","))
    assert {kind.family for kind in parse_kinds("table,missing:0.5")} == set(TABLE_KINDS.split(","))
    assert parse_kinds("dark,dark:0.4") == parse_kinds("dark")


@given(st.sampled_from(list(FAMILIES)), st.floats(0.0, 1.0))
def test_a_corruption_is_read_from_its_own_name(family, part):
    low, high = FAMILIES[family].low, FAMILIES[family].high
    (found,) = parse_kinds(Corruption(family, low + part * (high - low)).name)
    assert found.strength == pytest.approx(low + part * (high - low), rel=1e-5)


@pytest.mark.parametrize("text", ["", "blurr", "blur,", "dark:1.5", "rotate:", "rotate:far", "noise:nan", "blur,none"])
def test_a_wrong_list_is_refused(text):
    with pytest.raises(SettingsError):
        parse_kinds(text)


def test_every_fault_of_a_list_is_named():
    with pytest.raises(SettingsError) as caught:
        parse_kinds("blurr,dark:2,noise")
    assert len(caught.value.faults) == 2


@pytest.mark.parametrize("family", [*IMAGES, *TABLES])
def test_a_corruption_is_pure_changes_something_and_keeps_the_shape(family):
    rows, shape = (smooth(), SHAPE) if FAMILIES[family].images else (table(), (1, 1, 4))
    before = rows.copy()
    first, again = (apply(one(family), rows, shape, rng(1)) for _ in range(2))
    assert np.array_equal(rows, before)
    assert np.array_equal(first, again)
    assert first.shape == rows.shape
    assert np.isfinite(first).all()
    assert not np.allclose(first, rows)


@pytest.mark.parametrize("family", IMAGES)
@pytest.mark.parametrize(("low", "high"), [(0.0, 255.0), (-2.0, 3.0)])
def test_images_of_any_range_are_changed_alike_and_stay_in_it(family, low, high):
    """0..255 without whole numbers, and a range of its own, as of standardised images."""
    rows = smooth()
    rows[0, :2] = 0.0, 1.0
    unit = apply(one(family), rows, SHAPE, rng(2))
    other = apply(one(family), rows * (high - low) + low, SHAPE, rng(2))
    assert unit.min() >= 0.0
    assert unit.max() <= 1.0
    assert other.min() >= low
    assert other.max() <= high
    assert (other - low) / (high - low) == pytest.approx(unit, abs=0.01 if family == "jpeg" else 1e-9)


def test_a_few_rows_can_be_told_the_range_of_all():
    dim = smooth() * 0.3
    assert apply(one("bright"), dim * 255.0, SHAPE, rng(), (0.0, 255.0)) == pytest.approx(255.0 * (dim + 0.25))
    assert apply(one("bright"), dim * 2.0, SHAPE, rng(), (0.0, 2.0)) == pytest.approx(2.0 * (dim + 0.25))


def test_ranges_are_recognised():
    assert value_range(np.array([0.1, 0.3])) == (0.0, 1.0)
    assert value_range(np.array([0.0, 17.0])) == (0.0, 255.0)
    assert value_range(np.array([0.0, 256.0])) == (0.0, 256.0)
    assert value_range(np.array([-1.5, 2.5])) == (-1.5, 2.5)


def test_whole_numbers_stay_whole_but_black_and_white_may_become_grey():
    grey = np.round(smooth() * 255.0)
    assert np.array_equal(apply(one("noise"), grey, SHAPE, rng()) % 1.0, np.zeros_like(grey))
    assert (apply(one("dark"), (smooth() > 0.5).astype(float), SHAPE, rng()) == 0.25).any()


@pytest.mark.parametrize("family", [name for name in IMAGES if name not in ("jpeg", "noise", "impulse")])
def test_channels_may_come_first(family):
    last = smooth(shape=(28, 20, 3))
    first = np.moveaxis(last.reshape(-1, 28, 20, 3), 3, 1).reshape(len(last), -1)
    assert is_image((3, 28, 20))
    expected = np.moveaxis(apply(one(family), last, (28, 20, 3), rng()).reshape(-1, 28, 20, 3), 3, 1)
    assert apply(one(family), first, (3, 28, 20), rng()) == pytest.approx(expected.reshape(len(last), -1))


def test_a_kind_of_images_needs_images():
    with pytest.raises(SettingsError, match="kind of images"):
        apply(one("blur"), table(), (1, 1, 4), rng())
    assert not one("blur").suits((1, 1, 4))
    assert one("jitter").suits((28, 28, 1))


def test_what_each_corruption_of_images_does():
    rows = digits().x[:200].reshape(200, -1)
    shape = (8, 8, 1)
    images = rows.reshape(-1, 8, 8)

    def changed(family, strength):
        return apply(Corruption(family, strength), rows, shape, rng(3)).reshape(images.shape)

    assert np.abs(np.diff(changed("blur", 0.2), axis=1)).mean() < 0.7 * np.abs(np.diff(images, axis=1)).mean()
    assert changed("dark", 0.4) == pytest.approx(0.4 * images)
    assert (changed("noise", 0.08) - images)[images == 0.5].std() == pytest.approx(0.08, rel=0.1)
    assert changed("rotate", 0.0) == pytest.approx(images)
    assert changed("bright", 0.25) == pytest.approx(np.minimum(images + 0.25, 1.0))
    assert changed("contrast", 0.5).std() == pytest.approx(images.std() / 2, rel=0.1)
    assert changed("fog", 1.0)[:, :, :].std() < changed("fog", 0.0).std()
    assert (changed("impulse", 0.2) != images).mean() == pytest.approx(0.15, abs=0.07)
    assert changed("gamma", 2.0) == pytest.approx(images**2)
    assert changed("motion", 0.25) == pytest.approx(
        (np.pad(images, ((0, 0), (0, 0), (1, 0)), "symmetric")[..., :-1] + images) / 2
    )
    blocks = changed("pixelate", 0.5)
    assert blocks[:, ::2, ::2] == pytest.approx(images.reshape(-1, 4, 2, 4, 2).mean(axis=(2, 4)))
    assert np.array_equal(blocks[:, ::2], blocks[:, 1::2])
    moved = changed("shift", 0.125)
    assert all(
        any(
            np.array_equal(new[1:-1, 1:-1], np.roll(old, (i, j), (0, 1))[1:-1, 1:-1])
            for i in (-1, 0, 1)
            for j in (-1, 0, 1)
        )
        for new, old in zip(moved, images, strict=True)
    )
    assert changed("scale_image", 1.0) == pytest.approx(images)


def test_an_enlarged_image_shows_its_middle_and_a_shrunk_one_its_edge():
    rows = np.tile(np.linspace(0.0, 1.0, 9), (2, 9, 1)).reshape(2, -1)  # a slope from left to right
    large, small = (
        apply(Corruption("scale_image", factor), rows, (9, 9, 1), rng()).reshape(2, 9, 9)[0, 0] for factor in (2.0, 0.5)
    )
    assert large == pytest.approx(np.linspace(0.25, 0.75, 9))
    assert small == pytest.approx([0.0, 0.0, 0.0, 0.25, 0.5, 0.75, 1.0, 1.0, 1.0])


@pytest.mark.skipif(not PILLOW, reason="needs Pillow")
def test_jpeg_loses_more_at_lower_quality():
    rows = rng().uniform(size=(5, 28 * 20 * 3))
    errors = [np.abs(apply(Corruption("jpeg", q), rows, SHAPE, rng()) - rows).mean() for q in (90.0, 20.0)]
    assert 0.0 < errors[0] < errors[1]
    with pytest.raises(SettingsError, match="channels"):
        apply(Corruption("jpeg", 60.0), rng().uniform(size=(5, 28 * 20 * 4)), (28, 20, 4), rng())


def test_what_each_corruption_of_tables_does():
    rows = table(4000)
    shape = (1, 1, 4)
    jittered = apply(Corruption("jitter", 0.1), rows, shape, rng(1))
    assert (jittered - rows)[:, 0].std() == pytest.approx(0.1 * rows[:, 0].std(), rel=0.1)
    assert (jittered[:, 1] != rows[:, 1]).mean() == pytest.approx(0.1 * 0.8, abs=0.02)  # a fifth is drawn again
    assert set(jittered[:, 1]) <= set(rows[:, 1])
    assert (jittered[:, 2] % 1.0 == 0.0).all()  # whole numbers stay whole
    assert (jittered[:, 3] == 3.0).all()
    scaled = apply(Corruption("scale", 0.1), rows, shape, rng(1))
    ratio = scaled[:, 0] / rows[:, 0]
    assert 0.9 <= ratio.min() < 0.91
    assert 1.09 < ratio.max() <= 1.1
    assert np.array_equal(scaled[:, 1], rows[:, 1])


def test_a_missing_value_is_nan_where_the_rows_know_nan_and_else_the_usual_value():
    rows = table(2000)
    filled = apply(Corruption("missing", 0.5), rows, (1, 1, 4), rng(1))
    assert np.isfinite(filled).all()
    assert (filled[:, 0] == np.median(rows[:, 0])).mean() == pytest.approx(0.5, abs=0.05)
    rows[0, 0] = np.nan
    gaps = apply(Corruption("missing", 0.5), rows, (1, 1, 4), rng(1))
    assert np.isnan(gaps).mean() == pytest.approx(0.5, abs=0.05)
    for family in ("jitter", "scale"):
        assert np.isnan(apply(one(family), gaps, (1, 1, 4), rng(2))[np.isnan(gaps)]).all()


def test_columns_of_codes_are_recognised_and_a_column_of_missing_values_is_one():
    rows = np.array([[0.0, 0.5, 100.0, np.nan], [7.0, 1.5, 300.0, np.nan]])
    assert table_corruptions.is_code(rows).tolist() == [True, False, False, True]
    assert np.isfinite(apply(one("jitter"), rows, (1, 1, 4), rng())[:, :3]).all()


def test_strangers_differ_in_what_they_keep():
    rows = table(500)
    shuffled = strange_rows(SHUFFLED_COLUMNS, rows, (1, 1, 4), rng())
    assert np.array_equal(np.sort(shuffled, axis=0), np.sort(rows, axis=0))
    assert not np.array_equal(shuffled, rows)
    permuted = strange_rows(PERMUTED_PIXELS, rows, (1, 1, 4), rng())
    assert np.array_equal(np.sort(permuted, axis=1), np.sort(rows, axis=1))
    drawn = strange_rows(NOISE, rows, (1, 1, 4), rng())
    assert (drawn >= rows.min(axis=0)).all()
    assert (drawn <= rows.max(axis=0)).all()
    images = np.round(smooth() * 200.0)
    drawn = strange_rows(NOISE, images, SHAPE, rng())
    assert drawn.max() > 250.0
    assert (drawn % 1.0 == 0.0).all()
    for name in STRANGERS:
        assert np.array_equal(strange_rows(name, rows, (1, 1, 4), rng(5)), strange_rows(name, rows, (1, 1, 4), rng(5)))
    with pytest.raises(ValueError, match="no generic stranger"):
        strange_rows("odd", rows, (1, 1, 4), rng())
