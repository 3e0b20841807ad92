"""ModelGuard: answers within a distance of the true scores that keep the label and tell as little else as they can.

Tang et al. 2024, *ModelGuard: information-theoretic defense against model extraction attacks*, USENIX Security. Both
variants bound the L1 distance by ``distance``, 1 in the authors' experiments, and keep the most probable class.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import linprog

from modeltoll.bench.defences.perturbations import one_hot

if TYPE_CHECKING:
    from modeltoll.records import Floats

__all__ = ["LeastLikely", "Quantised", "codebooks"]

_MIN_SCORE = 1e-6  # added to a score before its logarithm, as in the authors' program
_MARGIN = 1e-4  # by which the most probable class leads in an answer
_ITERATIONS = 100  # of k-means
_DISTANCE = 1.0


@dataclass(frozen=True, slots=True)
class LeastLikely:
    """ModelGuard-W: the answer y' that minimises the sum of y' log y over the scores y.

    A linear programme for each row. It is the best answer against a caller who trains on answers as they are; one who
    knows the defence can invert it.
    """

    distance: float = _DISTANCE
    name: str = "ModelGuard-W"

    def answer(self, scores: Floats, leaks: Floats) -> Floats:  # noqa: ARG002  only the scores count
        """The solutions, one for each row."""
        answers: Floats = np.array([self._least_likely(row) for row in scores]).reshape(scores.shape)
        return answers

    def _least_likely(self, row: Floats) -> Floats:
        """The solution (classes,) of one row; the variables are what each class gains, and what it loses."""
        classes, top = len(row), int(row.argmax())
        gains = np.hstack([np.eye(classes), -np.eye(classes)])
        rivals = np.delete(np.arange(classes), top)
        found = linprog(
            np.log(row + _MIN_SCORE) @ gains,
            A_ub=np.vstack([np.ones(2 * classes), gains[rivals] - gains[top]]),
            b_ub=np.concatenate([[self.distance], row[top] - row[rivals] - _MARGIN]),
            A_eq=gains.sum(axis=0)[None],
            b_eq=[0.0],
            bounds=[*((0.0, 1.0) for _ in row), *((0.0, score) for score in row.tolist())],
        )
        if found.x is None:
            return one_hot(row[None]).reshape(classes)
        changed = np.maximum(row + gains @ found.x, 0.0)
        likely: Floats = changed / changed.sum()
        return likely


@dataclass(frozen=True, slots=True)
class Quantised:
    """ModelGuard-S: the nearest of a few answers, so that nobody can tell apart the scores that share one.

    ``codebook`` holds the answers (m, classes) for each predicted class; rows of another class are answered with their
    label only. The authors' program adds an answer whenever a query is farther than the distance from all; here the
    answers are those of the honest rows that the defence was made with.
    """

    codebook: Mapping[int, Floats]
    name: str = "ModelGuard-S"

    def answer(self, scores: Floats, leaks: Floats) -> Floats:  # noqa: ARG002  only the scores count
        """The nearest answers of each row's class."""
        labels, answers = scores.argmax(axis=1), one_hot(scores)
        for label, codes in self.codebook.items():
            rows = labels == label
            answers[rows] = codes[_distances(scores[rows], codes).argmin(axis=1)]
        return answers


def codebooks(scores: Floats, distance: float = _DISTANCE) -> dict[int, Floats]:
    """For each predicted class the fewest means (m, classes) that k-means finds within the distance of all its rows.

    A mean is added where the farthest row is, until none is farther than ``distance`` in L1.
    """
    labels = scores.argmax(axis=1)
    return {int(label): _covering_means(scores[labels == label], distance) for label in np.unique(labels)}


def _covering_means(rows: Floats, distance: float) -> Floats:
    """The means (m, classes) of rows (n, classes) of one predicted class; see ``codebooks``."""
    means = rows.mean(axis=0, keepdims=True)
    while True:
        means = _k_means(rows, means)
        nearest = _distances(rows, means).min(axis=1)
        if nearest.max() <= distance:
            return means
        means = np.vstack([means, rows[nearest.argmax()]])


def _k_means(rows: Floats, means: Floats) -> Floats:
    """The means (m, classes) that k-means ends at from these; those that no row is nearest to are left out."""
    for _ in range(_ITERATIONS):
        nearest = _distances(rows, means).argmin(axis=1)
        moved = np.array([rows[nearest == place].mean(axis=0) for place in np.unique(nearest)])
        if moved.shape == means.shape and np.allclose(moved, means):
            break
        means = moved
    return means


def _distances(rows: Floats, means: Floats) -> Floats:
    """L1 distances (n, m)."""
    distances: Floats = np.abs(rows[:, None] - means).sum(axis=2)
    return distances
