"""Leak measure ``novelty``, plain: the distance of an input to the private data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from modeltoll.errors import CalibrationError, RequestError
from modeltoll.leak.array_file import load_arrays, save_arrays
from modeltoll.leak.inputs import LARGEST, check_inputs, inputs_of
from modeltoll.leak.nearest_neighbours import Neighbours

if TYPE_CHECKING:
    from modeltoll.records import Evidence, Floats

__all__ = ["Embed", "NoveltyMeasure"]

Embed = Callable[["Floats"], "Floats"]  # inputs (rows, d) to features (rows, e); rows do not affect each other

_KIND = "novelty"
_REFERENCES = 2000  # private points whose median distance is the unit; it changes no rank


@dataclass(frozen=True, slots=True, eq=False)
class _FittedNovelty:
    """The fitted state: ``points`` (n, e), already divided by ``spread`` (e,); ``scale`` is the unit of distance."""

    points: Floats
    spread: Floats
    scale: float
    k: int
    dimensions: int


class NoveltyMeasure:
    """Distance to the k-th nearest private point, over the median of that distance among private points.

    Typical rows have a novelty near 1. The median excludes distances of 0, which come from duplicates. Unlike measures
    of the answer, this one detects confident answers far from the data.
    Source: the k-th nearest neighbour as outlier score, Ramaswamy et al. 2000.
    """

    inputs_alone: ClassVar[bool] = True

    __slots__ = ("_embed", "_fitted", "_search", "name")

    def __init__(
        self,
        private: Floats,
        k: int = 5,
        *,
        embed: Embed | None = None,
        standardise: bool = False,
        max_points: int | None = None,
        seed: int = 0,
    ) -> None:
        """Fit to private inputs of shape (n, d).

        Args:
            private: the victim's training inputs.
            k: the rank of the neighbour whose distance is taken.
            embed: maps inputs to the features whose distances are measured; by default the inputs themselves.
            standardise: divide each feature by its standard deviation over the private points (constant features are
                not scaled). For columns of different units; pixels and embeddings have one unit already.
            max_points: size of the random sample that is kept of more points.
            seed: of that sample and of the points that define the unit.

        Raises:
            CalibrationError: not finite numbers of that shape, not more than k points, identical points, or an
                embedding that does not give finite features (n, e).
        """
        try:
            inputs = check_inputs(private)
        except RequestError as error:
            raise CalibrationError(f"the private data cannot be used: {error}") from None
        rng = np.random.default_rng(seed)
        if max_points is not None and len(inputs) > max_points:
            inputs = inputs[np.sort(rng.choice(len(inputs), max_points, replace=False))]
        points = inputs if embed is None else _features(embed, inputs)
        if not _usable(points):
            raise CalibrationError("the embedding of the private data holds numbers that are not finite, or too large")
        if not 1 <= k < len(points):
            raise CalibrationError(f"distances to neighbour {k} need more than {len(points)} private points")
        deviation = points.std(axis=0)
        spread = np.where(deviation > 0.0, deviation, 1.0) if standardise else np.ones(points.shape[1])
        points = np.ascontiguousarray(points / spread)
        search = Neighbours(points)
        self._install(
            _FittedNovelty(points, spread, _distance_unit(points, search, k, rng), k, inputs.shape[1]), search, embed
        )

    def _install(self, fitted: _FittedNovelty, search: Neighbours, embed: Embed | None) -> None:
        self.name = "novelty"
        self._fitted = fitted
        self._search = search
        self._embed = embed

    @property
    def input_width(self) -> int:
        """How many numbers a row has."""
        return self._fitted.dimensions

    def measure(self, evidence: Evidence) -> Floats:
        """The novelty of each row's input, shape (rows,), 0 or more.

        Raises:
            RequestError: the inputs are missing, not finite, of another number of dimensions, or the embedding gives
                nothing finite for them.
            CalibrationError: the embedding gives another number of features than for the private data.
        """
        fitted = self._fitted
        points = inputs_of(evidence, fitted.dimensions)
        if self._embed is not None:
            points = _features(self._embed, points)
            if points.shape[1] != fitted.spread.size:
                raise CalibrationError(f"the embedding gives {points.shape[1]} features, not {fitted.spread.size}")
            if not _usable(points):
                raise RequestError("the inputs have no finite embedding")
        return self._search.nearest(points / fitted.spread, fitted.k)[0] / fitted.scale

    def save(self, path: Path) -> None:
        """Write the fitted measure. The embedding is code and is not saved."""
        arrays = {name: np.asarray(getattr(self._fitted, name)) for name in _FittedNovelty.__slots__}
        save_arrays(path, _KIND, arrays | {"embedded": np.array(self._embed is not None)})

    @classmethod
    def load(cls, path: Path, embed: Embed | None = None) -> NoveltyMeasure:
        """Read a file that ``save`` wrote; ``embed`` must be the embedding that the measure was fitted with.

        Raises:
            CalibrationError: the file is missing, damaged, of another kind or version, or an embedding is missing or
                superfluous.
        """
        arrays = load_arrays(path, _KIND)
        if (
            set(arrays) != {*_FittedNovelty.__slots__, "embedded"}
            or arrays["points"].shape[1:] != arrays["spread"].shape
        ):
            raise CalibrationError("the novelty file lacks arrays of a novelty measure", private=str(path))
        if bool(arrays["embedded"]) != (embed is not None):
            fitted_with = "with an embedding" if arrays["embedded"] else "without an embedding"
            raise CalibrationError(f"the novelty measure was fitted {fitted_with}")
        points, scale = arrays["points"], float(arrays["scale"])
        fitted = _FittedNovelty(points, arrays["spread"], scale, int(arrays["k"]), int(arrays["dimensions"]))
        measure = cls.__new__(cls)
        measure._install(fitted, Neighbours(points), embed)  # noqa: SLF001  an alternative constructor
        return measure


def _distance_unit(points: Floats, search: Neighbours, k: int, rng: np.random.Generator) -> float:
    """Median of the leave-one-out distances: the nearest point is the point itself, so rank k + 1 is taken."""
    chosen = rng.permutation(len(points))[:_REFERENCES]
    distances = search.nearest(points[chosen], k + 1)[0]
    distances = distances[distances > 0.0]
    if distances.size == 0:
        raise CalibrationError(f"the private points have no distances: each occurs more than {k} times")
    return float(np.median(distances))


def _features(embed: Embed, inputs: Floats) -> Floats:
    features = np.ascontiguousarray(embed(inputs), dtype=np.float64)
    if features.ndim != 2 or len(features) != len(inputs) or features.shape[1] == 0:
        raise CalibrationError("the embedding does not give features of shape (rows, features)")
    return features


def _usable(points: Floats) -> bool:
    return bool((np.abs(points) <= LARGEST).all())
