"""Leak measure ``pknn``: PATE without teachers, in which the nearest private points vote."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.errors import CalibrationError
from modeltoll.leak.array_file import load_arrays, save_arrays
from modeltoll.leak.nearest_neighbours import Neighbours
from modeltoll.leak.pate import VoteReadout
from modeltoll.leak.scores import check_scores, scores_of

if TYPE_CHECKING:
    from modeltoll.records import Evidence, Floats, Integers

__all__ = ["PknnMeasure", "log_scores"]

_SMALLEST = 1e-30  # smaller probabilities are raised to this, so that the logarithm stays finite
_KIND = "pknn"


def log_scores(scores: Floats) -> Floats:
    """The logarithms of probabilities (rows, classes), the space of the search; values below 1e-30 are raised to it.

    Raises:
        AnswerError: ``scores`` are not probabilities.
    """
    return _logarithms(check_scores(scores))


def _logarithms(scores: Floats) -> Floats:
    return np.asarray(np.log(np.maximum(scores, _SMALLEST)))


class PknnMeasure:
    """The GNMax leak of a vote: the labels of the k nearest private points in the space of the victim's log scores.

    It needs the victim's outputs on its private data only. The unit is the readout's.
    Source: Dziedzic et al. 2022, section 3.2 (k = 300, sigma = 28), after Zhu et al. 2020 (Private-kNN).
    """

    __slots__ = ("_labels", "_points", "_search", "k", "name", "readout")

    def __init__(
        self, points: Floats, labels: Integers, k: int = 300, readout: VoteReadout | None = None, name: str = "pknn"
    ) -> None:
        """Prepare the search.

        Args:
            points: log scores of the private points, shape (n, classes), as ``log_scores`` makes them.
            labels: true classes, whole numbers from 0, shape (n,). A class may have no points.
            k: number of points that vote.
            readout: ``rdp`` at sigma = 28 k / 300 by default.
            name: the measure's name.

        Raises:
            CalibrationError: fewer points than k, shapes that do not match, fewer than 2 classes among the labels, a
                label that is no class, or a log score that is not finite.
        """
        self._points, self._labels = _check_private(points, labels)
        if not 1 <= k <= len(self._points):
            raise CalibrationError(f"k is {k}, but there are {len(self._points)} private points")
        self._search = Neighbours(self._points)
        self.k = k
        self.name = name
        self.readout = VoteReadout(28.0 * k / 300.0) if readout is None else readout

    def votes(self, scores: Floats) -> Integers:
        """The number of the k nearest private points of each label, shape (rows, classes).

        Raises:
            AnswerError: the scores are not probabilities of as many classes as the private points have.
        """
        return self._vote(check_scores(scores, self._points.shape[1]))

    def _vote(self, scores: Floats) -> Integers:
        rows, classes = scores.shape
        labels = self._labels[self._search.nearest(_logarithms(scores), self.k)[1]]
        labels += classes * np.arange(rows)[:, None]
        return np.asarray(np.bincount(labels.ravel(), minlength=rows * classes).reshape(rows, classes))

    def measure(self, evidence: Evidence) -> Floats:
        """The leak of the neighbours' votes on each row, shape (rows,).

        Raises:
            AnswerError: the answer's scores are missing, not probabilities, or of another number of classes.
        """
        return self.readout.leak(self.votes_of(evidence))

    def votes_of(self, evidence: Evidence) -> Integers:
        """The neighbours' votes on each row, shape (rows, classes). Raises as ``measure`` does."""
        return self._vote(scores_of(evidence, self._points.shape[1]))

    def save(self, path: Path) -> None:
        """Write points, labels and k. The readout is not saved; it belongs to the settings."""
        save_arrays(path, _KIND, {"points": self._points, "labels": self._labels, "k": np.array(self.k)})

    @classmethod
    def load(cls, path: Path, readout: VoteReadout | None = None, name: str = "pknn") -> PknnMeasure:
        """Read a file that ``save`` wrote.

        Raises:
            CalibrationError: the file is missing, damaged, or of another kind or version.
        """
        arrays = load_arrays(path, _KIND)
        if set(arrays) != {"points", "labels", "k"} or arrays["k"].ndim:
            raise CalibrationError("the pknn file lacks points, labels or k", private=str(path))
        return cls(arrays["points"], arrays["labels"], int(arrays["k"]), readout, name)


def _check_private(points: Floats, labels: Integers) -> tuple[Floats, Integers]:
    values = np.ascontiguousarray(points, dtype=np.float64)
    classes = np.asarray(labels)
    if values.ndim != 2 or values.shape[1] < 2:
        raise CalibrationError("the private log scores are not of shape (n, classes) with at least 2 classes")
    if classes.shape != (len(values),) or classes.dtype.kind not in "iu":
        raise CalibrationError("the private labels are not one whole number per private point")
    if not np.isfinite(values).all():
        raise CalibrationError("the private log scores hold a number that is not finite; log_scores makes them finite")
    if not ((classes >= 0) & (classes < values.shape[1])).all():
        raise CalibrationError(f"a private label is not a class from 0 to {values.shape[1] - 1}")
    if np.unique(classes).size < 2:
        raise CalibrationError("the private points all have one label; votes need at least two")
    return values, classes.astype(np.int64, copy=False)
