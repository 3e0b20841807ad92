"""Exact nearest neighbours, fast for one row as for many.

In up to ``TREE_DIMENSIONS`` dimensions a k-d tree sorts the points, above that a matrix product in float32: into those
that surely belong to the k nearest, those that surely do not, and a few in doubt. Doubt is settled in float64 on the
points as they were given. So the result is that of a full search in float64, with ties going to the lower index.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

if TYPE_CHECKING:
    from modeltoll.records import Floats, Integers

__all__ = ["TREE_DIMENSIONS", "Neighbours"]

TREE_DIMENSIONS = 6  # measured on 60,000 normal points: above this the product is the faster one
_TIE = 1e-9  # relative difference up to which two distances of the tree are in doubt
_SHEET = 2**20  # float32 scores held at once: 4 MiB
_BLOCKS = 512  # fewest blocks whose minima bound the k-th distance
_FARTHEST = 1e9  # in radii of the points
_DOUBT = 1e30  # a margin above every difference of scores, finite in float32
_MOST_SCALE = 600  # so that 1e100 times the scale is finite
_SETTLE = 2**20  # float64 differences held at once: 8 MiB


class _Sorter(Protocol):
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
        low = self._points.shape[1] <= TREE_DIMENSIONS
        self._sorter: _Sorter = _Tree(self._points) if low else _Product(self._points)

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
            squares = self._squares(queries[row], doubtful)
            taken = np.argsort(squares, kind="stable")[: k - sure.size]
            radii[row] = squares[taken[-1]]
            indices[row, : sure.size] = sure
            indices[row, sure.size :] = doubtful[taken]
        return np.sqrt(radii), indices

    def _squares(self, query: Floats, chosen: Integers) -> Floats:
        """Squared distances from one query to some of the points, in float64."""
        step = max(1, _SETTLE // self._points.shape[1])
        parts = []
        for start in range(0, chosen.size, step):
            difference = self._points[chosen[start : start + step]]
            difference -= query
            parts.append(np.einsum("ij,ij->i", difference, difference))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


class _Tree:
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


class _Product:
    """Sorts by |x|^2 - 2 x.q in float32, which differs from the squared distance by |q|^2 and by rounding.

    The points are moved to their centre and scaled into the unit ball beforehand, so that a common offset costs no
    digits. Rounding is bounded: with u = 2^-24, a float32 product of d + 1 terms whose factors were rounded errs by at
    most (d + 5) u (|x| + |q|)^2 to first order (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1),
    and moving a point in float64 by at most 2^-51 sqrt(d) of its size. Order statistics err by no more than scores do.
    """

    __slots__ = ("_centre", "_moving", "_rounding", "_scale", "_sheet", "_top")

    def __init__(self, points: Floats) -> None:
        count, dimensions = points.shape
        self._centre = points.mean(axis=0)
        moved = points - self._centre
        size = float(np.abs(moved).max()) * dimensions**0.5
        self._scale = 2.0 ** min(-math.ceil(math.log2(size)), _MOST_SCALE) if size > 0.0 else 1.0
        moved *= self._scale
        lengths = np.einsum("ij,ij->i", moved, moved)
        self._top = float(np.sqrt(lengths.max()))
        self._moving = float(np.abs(points).max()) * self._scale * 2.0**-50 * dimensions**0.5
        self._rounding = 2.0 * (dimensions + 9) * 2.0**-24
        self._sheet = np.empty((dimensions + 1, count), dtype=np.float32)
        moved *= -2.0
        self._sheet[:dimensions] = moved.T
        self._sheet[dimensions] = lengths

    def sort(self, queries: Floats, k: int) -> Iterator[tuple[Integers, Integers]]:
        dimensions, count = self._sheet.shape[0] - 1, self._sheet.shape[1]
        moved = (queries - self._centre) * self._scale
        # So far away float32 tells nothing: the margin exceeds every difference, and all points are in doubt.
        np.minimum(np.maximum(moved, -_FARTHEST, out=moved), _FARTHEST, out=moved)
        reach = np.sqrt(np.einsum("ij,ij->i", moved, moved)) + self._top
        margins = np.minimum((self._rounding * reach + 4.0 * self._moving) * reach + 2.0 * self._moving**2, _DOUBT)
        factors = np.ones((len(queries), dimensions + 1), dtype=np.float32)
        factors[:, :dimensions] = moved
        step = max(1, _SHEET // count)
        for start in range(0, len(queries), step):
            scores = factors[start : start + step] @ self._sheet
            bounds = _bound(scores, k)
            for line, bound, margin in zip(
                scores, bounds.tolist(), margins[start : start + step].tolist(), strict=True
            ):
                near = np.flatnonzero(line <= bound + margin)
                values = line[near]
                last = float(np.partition(values, k - 1)[k - 1])
                sure = values < last - margin
                yield near[sure], near[~sure & (values <= last + margin)]


def _bound(scores: NDArray[np.float32], k: int) -> NDArray[np.float32]:
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
