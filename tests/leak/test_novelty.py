"""Novelty: what it sees, what it refuses, and that a saved measure is the same measure."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeltoll.errors import CalibrationError, RequestError
from modeltoll.leak.input_transform import HashedCodes, Standardised
from modeltoll.leak.measure import clean_measure
from modeltoll.leak.novelty import NoveltyMeasure
from modeltoll.records import Evidence
from modeltoll.testing.measures import check_measure


def evidence_of(inputs):
    inputs = np.asarray(inputs)
    return Evidence(tuple(i.to_bytes(8, "big") for i in range(len(inputs))), inputs=inputs)


def normal(rows=300, dimensions=8, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, dimensions))


def standardised(private):
    return Standardised.fit(private, (1, 1, private.shape[1]))


def fold(inputs):
    """An embedding: pairs of numbers, added."""
    return inputs[:, ::2] + inputs[:, 1::2]


@pytest.mark.parametrize("dimensions", [2, 8, 64])
@pytest.mark.parametrize("options", [{}, {"transform": 1}, {"embed": fold}, {"max_points": 100, "k": 1}])
def test_it_passes_the_suite(dimensions, options):
    if "transform" in options:
        options = {"transform": standardised(normal(dimensions=dimensions))}
    measure = NoveltyMeasure(normal(dimensions=dimensions), **options)
    check_measure(measure, evidence_of(normal(30, dimensions, 1) * 2))


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 40), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_it_is_the_distance_to_the_kth_neighbour_over_the_median_of_the_private_points_own(rows, dimensions, seed):
    rng = np.random.default_rng(seed)
    points, queries = rng.normal(size=(rows, dimensions)), rng.normal(size=(5, dimensions))
    k = int(rng.integers(1, rows))
    own = [np.sort(np.linalg.norm(np.delete(points, i, axis=0) - points[i], axis=1))[k - 1] for i in range(rows)]
    expected = [np.sort(np.linalg.norm(points - query, axis=1))[k - 1] / np.median(own) for query in queries]
    assert NoveltyMeasure(points, k).measure(evidence_of(queries)) == pytest.approx(expected, rel=1e-12)


def test_farther_is_more_novel_and_a_private_like_point_is_about_one():
    measure = NoveltyMeasure(normal(2000), 5)
    leaks = measure.measure(evidence_of(np.array([1.0, 3.0, 10.0, 1e50])[:, None] * np.ones(8)))
    assert (np.diff(leaks) > 0).all()
    assert np.median(measure.measure(evidence_of(normal(200, seed=9)))) == pytest.approx(1.0, abs=0.2)


@given(st.floats(1e-6, 1e6))
@settings(max_examples=20, deadline=None)
def test_it_does_not_depend_on_the_unit_of_the_inputs(unit):
    points, queries = normal(60), normal(5, seed=2)
    expected = NoveltyMeasure(points).measure(evidence_of(queries))
    assert NoveltyMeasure(points * unit).measure(evidence_of(queries * unit)) == pytest.approx(expected)


def test_standardised_it_does_not_depend_on_the_unit_of_a_column_but_detects_a_change_of_a_constant_one():
    points, queries = normal(200), normal(20, seed=3)
    points[:, 4] = queries[:, 4] = 7.0
    units = 10.0 ** np.arange(-4, 4)
    measure = NoveltyMeasure(points, transform=standardised(points))
    expected = measure.measure(evidence_of(queries))
    scaled = NoveltyMeasure(points * units, transform=standardised(points * units))
    assert scaled.measure(evidence_of(queries * units)) == pytest.approx(expected)
    queries[:, 4] = 70.0
    assert (measure.measure(evidence_of(queries)) > expected).all()


def test_duplicates_among_the_private_points_do_not_make_the_unit_zero():
    points = np.concatenate([np.zeros((500, 3)), normal(100, 3)])
    leaks = NoveltyMeasure(points).measure(evidence_of(np.concatenate([np.zeros((1, 3)), np.full((1, 3), 5.0)])))
    assert leaks[0] == 0.0
    assert 1.0 < leaks[1] < np.inf


def test_the_kept_part_is_chosen_by_the_seed():
    queries = evidence_of(normal(20, seed=1))
    leaks = [NoveltyMeasure(normal(), max_points=50, seed=seed).measure(queries) for seed in (1, 1, 2)]
    assert np.array_equal(leaks[0], leaks[1])
    assert not np.array_equal(leaks[0], leaks[2])


def test_fitting_does_not_change_the_private_data():
    points = normal()
    before = points.copy()
    NoveltyMeasure(points, transform=standardised(points))
    assert np.array_equal(points, before)


@pytest.mark.parametrize(
    "private",
    [
        normal(5),
        np.ones((20, 3)),
        np.full((20, 3), np.nan),
        np.ones(20),
        np.empty((0, 3)),
        np.empty((20, 0)),
        np.array([["a"] * 2] * 20),
    ],
    ids=["no more than k", "all the same", "NaN", "one dimension", "none", "no numbers", "text"],
)
def test_private_data_that_cannot_be_used_is_refused(private):
    with pytest.raises(CalibrationError):
        NoveltyMeasure(private, 5)


@pytest.mark.parametrize(
    "embed",
    [lambda x: x * np.nan, lambda x: x[:5], lambda x: x[:, 0], lambda x: x[:, :0]],
    ids=["NaN", "fewer rows", "one dimension", "no features"],
)
def test_an_embedding_that_gives_no_features_is_refused(embed):
    with pytest.raises(CalibrationError):
        NoveltyMeasure(normal(), embed=embed)


def test_an_embedding_that_fails_on_a_request_is_an_error():
    def breaks_far_out(inputs):
        return np.where(np.abs(inputs) > 50, np.nan, inputs)

    measure = NoveltyMeasure(normal(), embed=breaks_far_out)
    with pytest.raises(RequestError, match="embedding"):
        measure.measure(evidence_of(np.full((1, 8), 99.0)))


def test_an_embedding_that_changes_its_width_is_refused():
    measure = NoveltyMeasure(normal(), embed=lambda x: x if len(x) > 1 else x[:, :3])
    with pytest.raises(CalibrationError, match="3 features"):
        measure.measure(evidence_of(np.zeros((1, 8))))


@pytest.mark.parametrize("inputs", [np.zeros((1, 7)), np.full((1, 8), np.nan), np.full((1, 8), 1e101), np.zeros(8)])
def test_inputs_that_cannot_be_measured_are_refused(inputs):
    with pytest.raises(RequestError):
        NoveltyMeasure(normal()).measure(evidence_of(inputs))


@pytest.mark.parametrize("dimensions", [3, 20])
@pytest.mark.parametrize("transform", [lambda _: None, standardised, lambda points: HashedCodes(points.shape[1])])
def test_a_saved_measure_measures_the_same_bits(tmp_path, dimensions, transform):
    points = normal(dimensions=dimensions) * 20.0
    measure = NoveltyMeasure(points, 3, transform=transform(points))
    measure.save(tmp_path / "novelty.npz")
    queries = evidence_of(normal(50, dimensions, 1))
    assert np.array_equal(NoveltyMeasure.load(tmp_path / "novelty.npz").measure(queries), measure.measure(queries))


def test_a_saved_measure_asks_for_its_embedding(tmp_path):
    path = tmp_path / "novelty.npz"
    measure = NoveltyMeasure(normal(), embed=fold)
    measure.save(path)
    queries = evidence_of(normal(5, seed=1))
    assert np.array_equal(NoveltyMeasure.load(path, fold).measure(queries), measure.measure(queries))
    with pytest.raises(CalibrationError, match="with an embedding"):
        NoveltyMeasure.load(path)
    NoveltyMeasure(normal()).save(path)
    with pytest.raises(CalibrationError, match="without an embedding"):
        NoveltyMeasure.load(path, fold)


def test_rows_of_kinds_are_half_of_the_points_and_the_variant_without_them_is_saved_too(tmp_path):
    shifted = normal(seed=1) + 6.0
    measure = NoveltyMeasure(normal(), kinds={"shifted": shifted[:150]})
    queries = evidence_of(shifted[150:])
    clean = clean_measure(measure)
    assert clean.name == "novelty:clean"
    assert np.median(measure.measure(queries)) < 2.0
    assert np.median(clean.measure(queries)) > 4.0
    assert np.array_equal(clean.measure(queries), NoveltyMeasure(normal()).measure(queries))
    check_measure(measure, evidence_of(normal(9, seed=3)))
    check_measure(clean, evidence_of(normal(9, seed=3)))
    measure.save(tmp_path / "novelty.npz")
    loaded = NoveltyMeasure.load(tmp_path / "novelty.npz")
    for ours, theirs in ((measure, loaded), (clean, clean_measure(loaded))):
        assert np.array_equal(ours.measure(queries), theirs.measure(queries))
        assert ours.name == theirs.name


def test_a_missing_value_is_a_value_where_inputs_are_standardised():
    points = normal()
    points[::3, 2] = np.nan
    measure = NoveltyMeasure(points, transform=standardised(points))
    rows = normal(40, seed=5)
    rows[:20, 2] = np.nan  # as usual as a number
    rows[20:, 3] = np.nan  # never seen
    leaks = measure.measure(evidence_of(rows))
    assert np.median(leaks[:20]) < 1.3
    assert np.median(leaks[20:]) > 2.0
    with pytest.raises(RequestError):
        measure.measure(evidence_of(np.full((1, 8), np.inf)))
