"""The search finds what a full search in float64 finds, by the tree and by the product."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from modeltoll.leak.nearest_neighbours import TREE_DIMENSIONS, Neighbours, _CoarseDistances


def full_search(points, query, k):
    """Squared distances to all points in float64; the k smallest, ties to the lower index."""
    difference = points - query
    squares = np.einsum("ij,ij->i", difference, difference)
    first = np.argsort(squares, kind="stable")[:k]
    return np.sqrt(squares[first[-1]]), np.sort(first)


def assert_exact(points, queries, k, search=None):
    radii, indices = (search or Neighbours(points)).nearest(queries, k)
    for row, query in enumerate(queries):
        radius, members = full_search(points, query, k)
        assert radii[row] == radius
        assert np.array_equal(np.sort(indices[row]), members)


def make_points(kind, count, dimensions, rng):
    normal = rng.normal(size=(count, dimensions))
    return {
        "normal": lambda: normal,
        "grid": lambda: rng.integers(0, 3, size=(count, dimensions)).astype(float),
        "duplicates": lambda: normal[rng.integers(0, max(1, count // 10), count)],
        "all the same": lambda: np.repeat(normal[:1], count, axis=0),
        "far from the origin": lambda: normal + 1e8,
        "very far from the origin": lambda: normal * 1e-3 + 1e12,
        "one outlier": lambda: np.vstack([normal[:-1], np.full((1, dimensions), 1e9)]),
        "tiny": lambda: normal * 1e-120,
        "huge": lambda: normal * 1e90,
        "mixed units": lambda: normal * 10.0 ** rng.integers(-6, 7, dimensions),
    }[kind]()


KINDS = [
    "normal",
    "grid",
    "duplicates",
    "all the same",
    "far from the origin",
    "very far from the origin",
    "one outlier",
    "tiny",
    "huge",
    "mixed units",
]


@settings(max_examples=250, deadline=None)
@given(st.sampled_from(KINDS), st.integers(1, 60), st.integers(1, 20), st.integers(0, 2**32 - 1))
@example("duplicates", 60, TREE_DIMENSIONS, 0)
@example("duplicates", 60, TREE_DIMENSIONS + 1, 0)
def test_the_result_is_that_of_a_full_search(kind, count, dimensions, seed):
    rng = np.random.default_rng(seed)
    points = make_points(kind, count, dimensions, rng)
    near = points[rng.integers(0, count, 4)]
    queries = np.concatenate([near, near * (1 + 1e-12), near + rng.normal(size=near.shape), -1e6 * near])
    assert_exact(points, queries, int(rng.integers(1, count + 1)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dimensions", [3, 10])
def test_the_result_is_that_of_a_full_search_among_many_points(kind, dimensions):
    """Enough points that blocks bound the k-th distance, sorted so that neighbours stand next to each other."""
    rng = np.random.default_rng(5)
    points = make_points(kind, 5000, dimensions, rng)
    points = points[np.lexsort(points.T)]
    assert_exact(points, np.concatenate([points[::1000], points[:3] + 0.5]), 300)


def slanted(count, dimensions, rng, kind):
    """Points that differ mostly in a few directions, none of them an axis."""
    turned = np.linalg.qr(rng.normal(size=(dimensions, dimensions)))[0]
    return make_points(kind, count, dimensions, rng) * 0.5 ** np.arange(dimensions).clip(max=12) @ turned


@pytest.mark.parametrize("kind", KINDS)
def test_the_result_is_that_of_a_full_search_where_a_few_directions_rule_points_out(kind):
    """Near ones, ones between the points, and ones so far off in the other directions that nothing is ruled out."""
    rng = np.random.default_rng(7)
    points = slanted(5000, 64, rng, kind)
    size = np.abs(points).max()
    near = points[::1250]
    queries = np.concatenate([near, near + 0.01 * size * rng.normal(size=near.shape), size * rng.normal(size=(4, 64))])
    search = Neighbours(points)
    for k, at_once in product([1, 5, 40], [1, 8, 100]):
        for start in range(0, len(queries), at_once):
            assert_exact(points, queries[start : start + at_once], k, search)


def test_the_coarse_search_leaves_few_candidates():
    """The coarse search is used: for queries near points, few candidates are compared in float64."""
    rng = np.random.default_rng(7)
    points = slanted(5000, 64, rng, "normal")
    search = Neighbours(points)
    certain, candidates = next(search._search.candidates(points[:1] + 0.01, 5))
    assert isinstance(search._search, _CoarseDistances)
    assert certain.size == 0
    assert 5 <= candidates.size < 250


@pytest.mark.parametrize("dimensions", [2, 8])
def test_a_query_beyond_the_range_of_float32_is_answered(dimensions):
    points = np.random.default_rng(0).normal(size=(50, dimensions))
    assert_exact(points, np.full((1, dimensions), 1e100), 3)
    assert_exact(points, np.full((1, dimensions), -1e30), 3)


@pytest.mark.parametrize("dimensions", [2, 30])
def test_a_row_has_the_same_result_alone_and_in_a_batch(dimensions):
    rng = np.random.default_rng(3)
    search, queries = Neighbours(rng.normal(size=(700, dimensions))), rng.normal(size=(40, dimensions))
    radii, indices = search.nearest(queries, 7)
    for row in range(40):
        alone = search.nearest(queries[row : row + 1], 7)
        assert alone[0][0] == radii[row]
        assert np.array_equal(np.sort(alone[1][0]), np.sort(indices[row]))


@pytest.mark.parametrize("dimensions", [2, 30])
def test_no_queries_give_empty_results(dimensions):
    radii, indices = Neighbours(np.eye(dimensions)).nearest(np.empty((0, dimensions)), 2)
    assert radii.shape == (0,)
    assert indices.shape == (0, 2)


@pytest.mark.parametrize("k", [0, 4])
def test_more_neighbours_than_points_are_refused(k):
    with pytest.raises(ValueError, match=r"1\.\.3"):
        Neighbours(np.zeros((3, 2))).nearest(np.zeros((1, 2)), k)


def test_queries_of_other_dimensions_are_refused():
    with pytest.raises(ValueError, match="2 dimensions"):
        Neighbours(np.zeros((3, 2))).nearest(np.zeros((1, 3)), 1)
