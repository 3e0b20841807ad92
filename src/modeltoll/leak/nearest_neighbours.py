"""Exact nearest neighbours, fast for single rows and for batches.

Up to ``TREE_DIMENSIONS`` dimensions a k-d tree, above that a matrix product in float32 separates the points into those
that certainly belong to the k nearest, those that certainly do not, and a few candidates. If a few directions hold most
of the variance, a product in these directions first rules out nearly all points. Candidates are compared in float64 on
the original points. The result therefore equals that of a full search in float64 with ties going to the lower index.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

if TYPE_CHECKING:
    from modeltoll.records import Floats, Integers

__all__ = ["TREE_DIMENSIONS", "Neighbours"]

Single: TypeAlias = NDArray[np.float32]

TREE_DIMENSIONS = 6  # measured on 60,000 normal points: above this the product is the faster one
_TIE = 1e-9  # relative difference below which two distances of the tree count as possibly equal
_SCORES_AT_ONCE = 2**20  # float32 scores in memory at once: 4 MiB
_DIFFERENCES_AT_ONCE = 2**20  # float64 differences in memory at once: 8 MiB
_BLOCKS = 512  # least number of blocks whose minima bound the k-th distance
_MAX_COORDINATE = 1e9  # of a query, in radii of the points
_MAX_MARGIN = 1e30  # above every difference of scores, finite in float32
_MAX_SCALE_EXPONENT = 600  # 1e100 times the scale stays finite

# The coarse search pays off from this many dimensions and points on,
_COARSE_DIMENSIONS, _COARSE_POINTS = 64, 4096
# if this share of the variance lies in at most this share of the directions,
_VARIANCE, _MAX_MAIN_SHARE = 0.9, 0.5
# for at most so many queries at once, or from so many dimensions on; otherwise the full product is as fast.
_COARSE_QUERIES, _COARSE_BATCH_DIMENSIONS = 8, 512
_SVD_SAMPLE = 2000  # points that the main directions are computed from
_EXACT_DISTANCES = 16  # least number of close points whose exact distances bound the k-th
_MAX_REMAINING = 0.125  # share of the points that the coarse search may leave; with more the full product is as fast


class _CandidateSearch(Protocol):
    def candidates(self, queries: Floats, k: int) -> Iterator[tuple[Integers, Integers]]:
        """For each query the indices of points certainly among its k nearest (fewer than k), and of candidates.

        Candidates ascend and include the k-th nearest point.
        """


class Neighbours:
    """Nearest-neighbour search in a fixed set of points, in Euclidean distance."""

    __slots__ = ("_points", "_search")

    def __init__(self, points: Floats) -> None:
        """Index ``points`` of shape (n, d), with n and d at least 1, finite and of magnitude at most 1e100."""
        self._points: Floats = np.ascontiguousarray(points, dtype=np.float64)
        self._search = _candidate_search(self._points)

    def nearest(self, queries: Floats, k: int) -> tuple[Floats, Integers]:
        """The distance of each query to its k-th nearest point, (rows,), and the indices of its k nearest, (rows, k).

        The indices of a row are in no particular order. Of equally distant points the lower indices are taken.

        Args:
            queries: shape (rows, d), finite, of magnitude at most 1e100.
            k: 1 to n.

        Raises:
            ValueError: k is not in that range, or the queries have another number of dimensions than the points.
        """
        count, dimensions = self._points.shape
        if not 1 <= k <= count or queries.shape[1] != dimensions:
            raise ValueError(f"k must be in 1..{count} and the queries must have {dimensions} dimensions")
        radii = np.empty(len(queries))
        indices = np.empty((len(queries), k), dtype=np.int64)
        for row, (certain, candidates) in enumerate(self._search.candidates(queries, k)):
            squares = _squared_distances(self._points, queries[row], candidates)
            taken = np.argsort(squares, kind="stable")[: k - certain.size]
            radii[row] = squares[taken[-1]]
            indices[row, : certain.size] = certain
            indices[row, certain.size :] = candidates[taken]
        return np.sqrt(radii), indices


def _candidate_search(points: Floats) -> _CandidateSearch:
    """The fastest search for these points."""
    count, dimensions = points.shape
    if dimensions <= TREE_DIMENSIONS:
        return _KdTree(points)
    scaling, scaled, squares = _UnitBallScaling.fit(points)
    full = _MatrixProduct(scaling, scaled, squares)
    directions = _main_directions(scaled) if dimensions >= _COARSE_DIMENSIONS and count >= _COARSE_POINTS else None
    return full if directions is None else _CoarseDistances(points, scaling, full, directions)


def _squared_distances(points: Floats, query: Floats, chosen: Integers) -> Floats:
    """Squared distances of one query (d,) to the chosen points, in float64, shape (chosen,)."""
    step = max(1, _DIFFERENCES_AT_ONCE // points.shape[1])
    parts = []
    for start in range(0, chosen.size, step):
        difference = points[chosen[start : start + step]]
        difference -= query
        parts.append(np.einsum("ij,ij->i", difference, difference))
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


class _KdTree:
    """Search by a k-d tree, whose distances may differ from ``_squared_distances`` in the last digits."""

    __slots__ = ("_count", "_tree")

    def __init__(self, points: Floats) -> None:
        self._count = len(points)
        self._tree = cKDTree(points, leafsize=32, balanced_tree=False)  # unbalanced: duplicates do not slow it down

    def candidates(self, queries: Floats, k: int) -> Iterator[tuple[Integers, Integers]]:
        distances, indices = self._tree.query(queries, k=np.arange(1, min(k + 1, self._count) + 1))
        radii = distances[:, k - 1]
        tied = distances[:, -1] <= radii * (1.0 + _TIE) if k < self._count else np.zeros(len(radii), dtype=bool)
        for row, radius in enumerate(radii):
            found = indices[row, :k]
            certain = found[distances[row, :k] < radius * (1.0 - _TIE)]
            near = self._tree.query_ball_point(queries[row], radius * (1.0 + _TIE)) if tied[row] else found
            yield certain, np.setdiff1d(near, certain)


@dataclass(frozen=True, slots=True, eq=False)
class _UnitBallScaling:
    """The map of points into the unit ball: subtract ``centre``, then multiply by ``scale``.

    Thus a common offset does not cost float32 precision. ``radius``: length of the longest scaled point.
    ``centring_error``: bound on the error of centring. ``rounding``: bound on the error of a product, as a fraction of
    (|x| + |q|)^2.
    """

    centre: Floats
    scale: float
    radius: float
    centring_error: float
    rounding: float

    @classmethod
    def fit(cls, points: Floats) -> tuple[_UnitBallScaling, Floats, Floats]:
        """A scaling, the scaled points (n, d), and their squared lengths (n,).

        Error bounds: with u = 2^-24, a float32 product of d + 1 terms with rounded factors errs by at most
        (d + 5) u (|x| + |q|)^2 to first order (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1);
        centring a point in float64 errs by at most 2^-51 sqrt(d) of its size.
        """
        dimensions = points.shape[1]
        centre = points.mean(axis=0)
        scaled = points - centre
        size = float(np.abs(scaled).max()) * dimensions**0.5
        scale = 2.0 ** min(-math.ceil(math.log2(size)), _MAX_SCALE_EXPONENT) if size > 0.0 else 1.0
        scaled *= scale
        squares = np.einsum("ij,ij->i", scaled, scaled)
        centring_error = float(np.abs(points).max()) * scale * 2.0**-50 * dimensions**0.5
        rounding = 2.0 * (dimensions + 9) * 2.0**-24
        return cls(centre, scale, float(np.sqrt(squares.max())), centring_error, rounding), scaled, squares

    def transform(self, queries: Floats) -> tuple[Floats, Floats, Floats]:
        """Scaled queries (rows, d), their squared lengths (rows,), and the error margins of their scores (rows,)."""
        scaled = (queries - self.centre) * self.scale
        # Farther away float32 has no precision left: the margin exceeds every difference, and all points are candidates.
        np.minimum(np.maximum(scaled, -_MAX_COORDINATE, out=scaled), _MAX_COORDINATE, out=scaled)
        squares = np.einsum("ij,ij->i", scaled, scaled)
        reach = np.sqrt(squares) + self.radius
        margins = (self.rounding * reach + 4.0 * self.centring_error) * reach + 2.0 * self.centring_error**2
        return scaled, squares, np.minimum(margins, _MAX_MARGIN)


class _MatrixProduct:
    """Search by the score |x|^2 - 2 x.q in float32: the squared distance less |q|^2, up to rounding.

    Order statistics of the scores err by no more than the scores.
    """

    __slots__ = ("_matrix", "_scaling")

    def __init__(self, scaling: _UnitBallScaling, scaled: Floats, squares: Floats) -> None:
        self._scaling = scaling
        self._matrix = _score_matrix(scaled, squares)

    def candidates(self, queries: Floats, k: int) -> Iterator[tuple[Integers, Integers]]:
        scaled, _, margins = self._scaling.transform(queries)
        scored = _score_rows(scaled, self._matrix, k)
        for (line, bound), margin in zip(scored, margins.tolist(), strict=True):
            near = np.flatnonzero(line <= bound + margin)
            values = line[near]
            last = float(np.partition(values, k - 1)[k - 1])
            certain = values < last - margin
            yield near[certain], near[~certain & (values <= last + margin)]


class _CoarseDistances:
    """Search by a lower bound of the score of a point: |x|^2 - 2 a.b - 2 r s (Cauchy and Schwarz).

    a and b are x and q in the main directions, r and s the lengths of their remainders. The exact distances of the
    points with the lowest bounds give an upper bound of the k-th distance; points above it are ruled out. The rounding
    error is that of the full score.
    """

    __slots__ = ("_directions", "_full", "_matrix", "_points", "_scaling")

    def __init__(self, points: Floats, scaling: _UnitBallScaling, full: _CandidateSearch, directions: Floats) -> None:
        """``directions`` (d, h) are orthonormal; ``full`` is used where too many points remain."""
        self._points, self._scaling, self._full, self._directions = points, scaling, full, directions
        scaled, squares, _ = scaling.transform(points)
        self._matrix = _score_matrix(self._project(scaled, squares), squares)

    def _project(self, scaled: Floats, squares: Floats) -> Floats:
        """Coordinates in the main directions and the length of the remainder, (rows, h + 1)."""
        main = scaled @ self._directions
        return np.column_stack([main, np.sqrt(np.maximum(squares - np.einsum("ij,ij->i", main, main), 0.0))])

    def candidates(self, queries: Floats, k: int) -> Iterator[tuple[Integers, Integers]]:
        if len(queries) > _COARSE_QUERIES and len(self._directions) < _COARSE_BATCH_DIMENSIONS:
            yield from self._full.candidates(queries, k)
            return
        scaled, squares, margins = self._scaling.transform(queries)
        scored = _score_rows(self._project(scaled, squares), self._matrix, max(k, _EXACT_DISTANCES))
        found = [
            self._remaining(query, line, bound, margin - square, k)
            for query, (line, bound), square, margin in zip(
                queries, scored, squares.tolist(), margins.tolist(), strict=True
            )
        ]
        full = self._full.candidates(queries[[remaining is None for remaining in found]], k)
        yield from (next(full) if remaining is None else (remaining[:0], remaining) for remaining in found)

    def _remaining(self, query: Floats, line: Single, bound: float, slack: float, k: int) -> Integers | None:
        """The points that may be among the k nearest; None if they are too many."""
        exact = _squared_distances(self._points, query, np.flatnonzero(line <= bound))
        last = float(np.sqrt(np.partition(exact, k - 1)[k - 1])) * self._scaling.scale
        remaining = np.flatnonzero(line <= min(last * last + slack, _MAX_MARGIN))
        return remaining if k <= remaining.size <= _MAX_REMAINING * line.size else None


def _main_directions(scaled: Floats) -> Floats | None:
    """The orthonormal directions (d, h) that hold most of the variance of centred points; None if they are too many."""
    sample = scaled[:: max(1, len(scaled) // _SVD_SAMPLE)]
    _, values, directions = np.linalg.svd(sample, full_matrices=False)
    cumulative = np.cumsum(values**2)
    count = 1 + int(np.searchsorted(cumulative, _VARIANCE * cumulative[-1]))
    return np.ascontiguousarray(directions[:count].T) if count <= _MAX_MAIN_SHARE * scaled.shape[1] else None


def _score_matrix(points: Floats, squares: Floats) -> Single:
    """The matrix (d + 1, n) whose product with (q, 1) is |x|^2 - 2 x.q of all points."""
    matrix = np.empty((points.shape[1] + 1, len(points)), np.float32)
    np.multiply(points.T, -2.0, out=matrix[:-1], casting="same_kind")
    matrix[-1] = squares
    return matrix


def _score_rows(queries: Floats, matrix: Single, k: int) -> Iterator[tuple[Single, float]]:
    """For each query the scores of all points (n,), in float32, and an upper bound of the k-th smallest."""
    factors = np.ones((len(queries), len(matrix)), np.float32)
    factors[:, :-1] = queries
    step = max(1, _SCORES_AT_ONCE // matrix.shape[1])
    for start in range(0, len(queries), step):
        scores = factors[start : start + step] @ matrix
        yield from zip(scores, _upper_bound(scores, k).tolist(), strict=True)


def _upper_bound(scores: Single, k: int) -> Single:
    """An upper bound of each row's k-th smallest score: the k-th smallest of the minima of disjoint blocks.

    With twice as many blocks as neighbours about 1.4 k points are below it. Selecting among all scores would take
    longer than computing them.
    """
    rows, count = scores.shape
    blocks = max(_BLOCKS, 2 * k)
    width = count // blocks
    if width > 1:
        scores = scores[:, : width * blocks].reshape(rows, width, blocks).min(axis=1)
    return np.asarray(np.partition(scores, k - 1, axis=1)[:, k - 1])
