"""Exact nearest neighbours, fast for one row as for many.

In up to ``TREE_DIMENSIONS`` dimensions a k-d tree sorts the points, above that a matrix product in float32: into those
that surely belong to the k nearest, those that surely do not, and a few in doubt. Where some directions hold most of what
the points differ by, a product in these directions alone rules out nearly all of them beforehand. Doubt is settled in
float64 on the points as they were given. So the result is that of a full search in float64, with ties going to the lower
index.
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
_TIE = 1e-9  # relative difference up to which two distances of the tree are in doubt
_SCORES_AT_ONCE = 2**20  # float32 scores held at once: 4 MiB
_BLOCKS = 512  # fewest blocks whose minima bound the k-th distance
_FARTHEST = 1e9  # in radii of the points
_DOUBT = 1e30  # a margin above every difference of scores, finite in float32
_MOST_SCALE = 600  # so that 1e100 times the scale is finite
_DIFFERENCES_AT_ONCE = 2**20  # float64 differences held at once: 8 MiB
_COARSE_DIMENSIONS = 64  # dimensions from which on a preview may be worth its while, and
_COARSE_POINTS = 4096  # so many points
_VARIANCE = 0.9  # what the previewed directions hold of it; these are at most
_MAX_MAIN_SHARE = 0.5  # that part of all
_COARSE_QUERIES = 8  # queries at once, or
_COARSE_DIRECTIONS = (
    512  # dimensions: otherwise the whole product reads the points once for all queries, and is as fast
)
_SVD_SAMPLE = 2000  # points that show the directions
_EXACT_DISTANCES = 16  # nearest points of a preview, at least, whose true distances bound the k-th
_MAX_REMAINING = 0.125  # the part of the points that a preview may leave; with more the whole product is as fast


class _CandidateSearch(Protocol):
    def sort(self, queries: Floats, k: int) -> Iterator[tuple[Integers, Integers]]:
        """For each query, indices of points surely among its k nearest (fewer than k), and of those in doubt.

        The doubtful ones ascend, and the k-th nearest is one of them.
        """


class Neighbours:
    """The nearest of a fixed set of points, in Euclidean distance."""

    __slots__ = ("_points", "_sorter")

    def __init__(self, points: Floats) -> None:
        """Keep ``points`` of shape (n, d), n and d at least 1, finite, at most 1e100 in size."""
        self._points: Floats = np.ascontiguousarray(points, dtype=np.float64)
        self._sorter = _candidate_search(self._points)

    def nearest(self, queries: Floats, k: int) -> tuple[Floats, Integers]:
        """Each query's distance to its k-th nearest point, shape (rows,), and the indices of its k nearest, (rows, k).

        The indices of a row are in no particular order; among equally distant points the lower ones are taken.

        Args:
            queries: shape (rows, d), finite, at most 1e100 in size.
            k: 1 to n.

        Raises:
            ValueError: k is not in that range, or the queries have another number of dimensions than the points.
        """
        count, dimensions = self._points.shape
        if not 1 <= k <= count or queries.shape[1] != dimensions:
            raise ValueError(f"k must be in 1..{count} and the queries must have {dimensions} dimensions")
        radii = np.empty(len(queries))
        indices = np.empty((len(queries), k), dtype=np.int64)
        for row, (sure, doubtful) in enumerate(self._sorter.sort(queries, k)):
            squares = _squared_distances(self._points, queries[row], doubtful)
            taken = np.argsort(squares, kind="stable")[: k - sure.size]
            radii[row] = squares[taken[-1]]
            indices[row, : sure.size] = sure
            indices[row, sure.size :] = doubtful[taken]
        return np.sqrt(radii), indices


def _candidate_search(points: Floats) -> _CandidateSearch:
    """What sorts these points fastest."""
    count, dimensions = points.shape
    if dimensions <= TREE_DIMENSIONS:
        return _KdTree(points)
    frame, moved, lengths = _UnitBallScaling.around(points)
    whole = _MatrixProduct(frame, moved, lengths)
    directions = _main_directions(moved) if dimensions >= _COARSE_DIMENSIONS and count >= _COARSE_POINTS else None
    return whole if directions is None else _CoarseDistances(points, frame, whole, directions)


def _squared_distances(points: Floats, query: Floats, chosen: Integers) -> Floats:
    """Squared distances from one query to some of the points, in float64."""
    step = max(1, _DIFFERENCES_AT_ONCE // points.shape[1])
    parts = []
    for start in range(0, chosen.size, step):
        difference = points[chosen[start : start + step]]
        difference -= query
        parts.append(np.einsum("ij,ij->i", difference, difference))
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


class _KdTree:
    """Sorts by a k-d tree, whose distances may differ from ours in the last digits."""

    __slots__ = ("_count", "_tree")

    def __init__(self, points: Floats) -> None:
        self._count = len(points)
        self._tree = cKDTree(points, leafsize=32, balanced_tree=False)  # unbalanced: duplicates do not slow it down

    def sort(self, queries: Floats, k: int) -> Iterator[tuple[Integers, Integers]]:
        distances, indices = self._tree.query(queries, k=np.arange(1, min(k + 1, self._count) + 1))
        radii = distances[:, k - 1]
        tied = distances[:, -1] <= radii * (1.0 + _TIE) if k < self._count else np.zeros(len(radii), dtype=bool)
        for row, radius in enumerate(radii):
            found = indices[row, :k]
            sure = found[distances[row, :k] < radius * (1.0 - _TIE)]
            near = self._tree.query_ball_point(queries[row], radius * (1.0 + _TIE)) if tied[row] else found
            yield sure, np.setdiff1d(near, sure)


@dataclass(frozen=True, slots=True, eq=False)
class _UnitBallScaling:
    """Where points lie in the unit ball: moved to their ``centre``, then multiplied by ``scale``.

    So a common offset costs float32 no digits. ``top`` is the longest point's length there, ``moving`` what moving one
    may change, ``rounding`` what a product may, in parts of (|x| + |q|)^2.
    """

    centre: Floats
    scale: float
    top: float
    moving: float
    rounding: float

    @classmethod
    def around(cls, points: Floats) -> tuple[_UnitBallScaling, Floats, Floats]:
        """A frame, the points (n, d) in it, and the squares of their lengths there (n,).

        Rounding is bounded: with u = 2^-24, a float32 product of d + 1 terms whose factors were rounded errs by at most
        (d + 5) u (|x| + |q|)^2 to first order (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1),
        and moving a point in float64 by at most 2^-51 sqrt(d) of its size.
        """
        dimensions = points.shape[1]
        centre = points.mean(axis=0)
        moved = points - centre
        size = float(np.abs(moved).max()) * dimensions**0.5
        scale = 2.0 ** min(-math.ceil(math.log2(size)), _MOST_SCALE) if size > 0.0 else 1.0
        moved *= scale
        lengths = np.einsum("ij,ij->i", moved, moved)
        moving = float(np.abs(points).max()) * scale * 2.0**-50 * dimensions**0.5
        rounding = 2.0 * (dimensions + 9) * 2.0**-24
        return cls(centre, scale, float(np.sqrt(lengths.max())), moving, rounding), moved, lengths

    def place(self, queries: Floats) -> tuple[Floats, Floats, Floats]:
        """Queries (rows, d) as they are seen here, their squares (rows,), and the doubt about their scores (rows,)."""
        moved = (queries - self.centre) * self.scale
        # So far away float32 tells nothing: the margin exceeds every difference, and all points are in doubt.
        np.minimum(np.maximum(moved, -_FARTHEST, out=moved), _FARTHEST, out=moved)
        lengths = np.einsum("ij,ij->i", moved, moved)
        reach = np.sqrt(lengths) + self.top
        margins = (self.rounding * reach + 4.0 * self.moving) * reach + 2.0 * self.moving**2
        return moved, lengths, np.minimum(margins, _DOUBT)


class _MatrixProduct:
    """Sorts by |x|^2 - 2 x.q in float32, which differs from the squared distance by |q|^2 and by rounding.

    Order statistics err by no more than scores do.
    """

    __slots__ = ("_frame", "_sheet")

    def __init__(self, frame: _UnitBallScaling, moved: Floats, lengths: Floats) -> None:
        self._frame = frame
        self._sheet = _score_matrix(moved, lengths)

    def sort(self, queries: Floats, k: int) -> Iterator[tuple[Integers, Integers]]:
        moved, _, margins = self._frame.place(queries)
        scored = _score_rows(moved, self._sheet, k)
        for (line, bound), margin in zip(scored, margins.tolist(), strict=True):
            near = np.flatnonzero(line <= bound + margin)
            values = line[near]
            last = float(np.partition(values, k - 1)[k - 1])
            sure = values < last - margin
            yield near[sure], near[~sure & (values <= last + margin)]


class _CoarseDistances:
    """Sorts by what the score of a point is at least: |x|^2 - 2 a.b - 2 r s.

    a and b are x and q in the main directions, r and s the lengths of the rest of them (Cauchy and Schwarz). The true
    distances of the points that look nearest bound the k-th; whoever cannot be as near is out. The bound errs by
    rounding as the whole score does.
    """

    __slots__ = ("_directions", "_frame", "_points", "_sheet", "_whole")

    def __init__(self, points: Floats, frame: _UnitBallScaling, whole: _CandidateSearch, directions: Floats) -> None:
        """``directions`` (d, h) are orthogonal and of unit length; ``whole`` sorts where too many points are left."""
        self._points, self._frame, self._whole, self._directions = points, frame, whole, directions
        moved, lengths, _ = frame.place(points)
        self._sheet = _score_matrix(self._seen(moved, lengths), lengths)

    def _seen(self, moved: Floats, lengths: Floats) -> Floats:
        """The main directions, and the length of the rest, (rows, h + 1)."""
        main = moved @ self._directions
        return np.column_stack([main, np.sqrt(np.maximum(lengths - np.einsum("ij,ij->i", main, main), 0.0))])

    def sort(self, queries: Floats, k: int) -> Iterator[tuple[Integers, Integers]]:
        if len(queries) > _COARSE_QUERIES and len(self._directions) < _COARSE_DIRECTIONS:
            yield from self._whole.sort(queries, k)
            return
        moved, lengths, margins = self._frame.place(queries)
        scored = _score_rows(self._seen(moved, lengths), self._sheet, max(k, _EXACT_DISTANCES))
        found = [
            self._left(query, line, bound, margin - length, k)
            for query, (line, bound), length, margin in zip(
                queries, scored, lengths.tolist(), margins.tolist(), strict=True
            )
        ]
        whole = self._whole.sort(queries[[left is None for left in found]], k)
        yield from (next(whole) if left is None else (left[:0], left) for left in found)

    def _left(self, query: Floats, line: Single, bound: float, slack: float, k: int) -> Integers | None:
        """The points that may be among the k nearest; None where they are too many."""
        known = _squared_distances(self._points, query, np.flatnonzero(line <= bound))
        last = float(np.sqrt(np.partition(known, k - 1)[k - 1])) * self._frame.scale
        left = np.flatnonzero(line <= min(last * last + slack, _DOUBT))
        return left if k <= left.size <= _MAX_REMAINING * line.size else None


def _main_directions(moved: Floats) -> Floats | None:
    """The directions (d, h) that hold most of the variance of centred points; None where it takes too many of them."""
    sample = moved[:: max(1, len(moved) // _SVD_SAMPLE)]
    _, values, directions = np.linalg.svd(sample, full_matrices=False)
    held = np.cumsum(values**2)
    count = 1 + int(np.searchsorted(held, _VARIANCE * held[-1]))
    return np.ascontiguousarray(directions[:count].T) if count <= _MAX_MAIN_SHARE * moved.shape[1] else None


def _score_matrix(points: Floats, lengths: Floats) -> Single:
    """What gives |x|^2 - 2 x.q of all points at once, (d + 1, n)."""
    sheet = np.empty((points.shape[1] + 1, len(points)), np.float32)
    np.multiply(points.T, -2.0, out=sheet[:-1], casting="same_kind")
    sheet[-1] = lengths
    return sheet


def _score_rows(queries: Floats, sheet: Single, k: int) -> Iterator[tuple[Single, float]]:
    """Each query's scores of all points in float32, and a bound of its k-th smallest."""
    factors = np.ones((len(queries), len(sheet)), np.float32)
    factors[:, :-1] = queries
    step = max(1, _SCORES_AT_ONCE // sheet.shape[1])
    for start in range(0, len(queries), step):
        scores = factors[start : start + step] @ sheet
        yield from zip(scores, _upper_bound(scores, k).tolist(), strict=True)


def _upper_bound(scores: Single, k: int) -> Single:
    """An upper bound of each row's k-th smallest score: the k-th smallest of the minima of disjoint blocks.

    Twice as many blocks as neighbours let through about 1.4 k points; selecting among all scores would take longer
    than computing them.
    """
    rows, count = scores.shape
    blocks = max(_BLOCKS, 2 * k)
    width = count // blocks
    if width > 1:
        scores = scores[:, : width * blocks].reshape(rows, width, blocks).min(axis=1)
    return np.asarray(np.partition(scores, k - 1, axis=1)[:, k - 1])
