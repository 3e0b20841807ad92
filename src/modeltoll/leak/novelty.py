"""Leak measure ``novelty``, plain: the distance of an input to the private data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from modeltoll.errors import CalibrationError, RequestError
from modeltoll.leak.array_file import load_arrays, save_arrays
from modeltoll.leak.input_transform import transform_of_arrays
from modeltoll.leak.inputs import LARGEST, check_inputs, inputs_of
from modeltoll.leak.kind_points import NO_KIND_ROWS, choose_points
from modeltoll.leak.nearest_neighbours import Neighbours
from modeltoll.names import clean_name

if TYPE_CHECKING:
    from modeltoll.leak.input_transform import InputTransform
    from modeltoll.leak.kind_points import KindRows
    from modeltoll.records import Evidence, Floats

__all__ = ["Embed", "NoveltyMeasure"]

Embed = Callable[["Floats"], "Floats"]  # inputs (rows, d) to features (rows, e); rows do not affect each other

_KIND = "novelty"
_REFERENCES = 2000  # private points whose median distance is the unit; it changes no rank
_CLEAN = "clean_"  # begins the names of the arrays of the variant without kinds
_NUMBERS = ("points", "scale", "k", "dimensions", "embedded")


@dataclass(frozen=True, slots=True, eq=False)
class _FittedNovelty:
    """The fitted state: ``points`` (n, e), already transformed; ``scale`` is the unit of distance.

    Inputs of ``dimensions`` numbers are transformed by ``transform`` (None: not), then by the embedding.
    """

    points: Floats
    scale: float
    k: int
    dimensions: int
    transform: InputTransform | None


class NoveltyMeasure:
    """Distance to the k-th nearest private point, over the median of that distance among private points.

    Typical rows have a novelty near 1. The median excludes distances of 0, which come from duplicates. Unlike measures
    of the answer, this one detects confident answers far from the data. With kinds of honest rows, half of the points
    are of these kinds. ``clean`` is then the same measure without kinds, named ``novelty:clean``; else None.
    Source: the k-th nearest neighbour as outlier score, Ramaswamy et al. 2000.
    """

    inputs_alone: ClassVar[bool] = True

    __slots__ = ("_embed", "_fitted", "_search", "clean", "name")

    def __init__(  # noqa: PLR0913  data and k; the rest has defaults
        self,
        private: Floats,
        k: int = 5,
        *,
        transform: InputTransform | None = None,
        embed: Embed | None = None,
        kinds: KindRows = NO_KIND_ROWS,
        max_points: int | None = None,
        seed: int = 0,
    ) -> None:
        """Fit to private inputs of shape (n, d).

        Args:
            private: the victim's training inputs. They may hold missing values (NaN) where there is a transform.
            k: the rank of the neighbour whose distance is taken.
            transform: what is done to the inputs first, for example ``Standardised.fit(private, (1, 1, d))``, for
                columns of different units, or ``HashedCodes(d)`` for codes. Without it, the inputs as they are.
            embed: maps (transformed) inputs to the features whose distances are measured.
            kinds: rows (m, d) of each declared kind of honest callers, by name.
            max_points: size of the random sample that is kept of more points.
            seed: of that sample and of the points that define the unit.

        Raises:
            CalibrationError: not numbers of that shape, not more than k points, identical points, or an embedding that
                does not give finite features (n, e).
        """
        try:
            inputs = check_inputs(private, missing=transform is not None)
            rows = {
                name: check_inputs(each, inputs.shape[1], missing=transform is not None) for name, each in kinds.items()
            }
        except RequestError as error:
            raise CalibrationError(f"the private data cannot be used: {error}") from None
        rng = np.random.default_rng(seed)
        chosen, private_points = choose_points(inputs, rows, max_points, rng)
        points = _transformed(chosen, transform, embed)
        if not _usable(points):
            raise CalibrationError("the embedding of the private data holds numbers that are not finite, or too large")
        if not 1 <= k < private_points:
            raise CalibrationError(f"distances to neighbour {k} need more than {private_points} private points")
        search = Neighbours(points)
        scale = _distance_unit(points[:private_points], search, k, rng)
        self._install(_FittedNovelty(points, scale, k, inputs.shape[1], transform), search, embed)
        if rows:
            clean = NoveltyMeasure(private, k, transform=transform, embed=embed, max_points=max_points, seed=seed)
            self._declare(clean)

    def _install(self, fitted: _FittedNovelty, search: Neighbours, embed: Embed | None) -> None:
        self.name = "novelty"
        self._fitted = fitted
        self._search = search
        self._embed = embed
        self.clean: NoveltyMeasure | None = None

    def _declare(self, clean: NoveltyMeasure) -> None:
        clean.name = clean_name(self.name)
        self.clean = clean

    @property
    def input_width(self) -> int:
        """How many numbers a row has."""
        return self._fitted.dimensions

    @property
    def reads_missing(self) -> bool:
        """Whether a row may have missing values (NaN)."""
        return self._fitted.transform is not None

    def measure(self, evidence: Evidence) -> Floats:
        """The novelty of each row's input, shape (rows,), 0 or more.

        Raises:
            RequestError: the inputs are missing, not finite, of another number of dimensions, or the embedding gives
                nothing finite for them.
            CalibrationError: the embedding gives another number of features than for the private data.
        """
        fitted = self._fitted
        inputs = inputs_of(evidence, fitted.dimensions, missing=self.reads_missing)
        points = _transformed(inputs, fitted.transform, self._embed)
        if points.shape[1] != fitted.points.shape[1]:
            raise CalibrationError(f"the embedding gives {points.shape[1]} features, not {fitted.points.shape[1]}")
        if not _usable(points):
            raise RequestError("the inputs have no finite embedding")
        return self._search.nearest(points, fitted.k)[0] / fitted.scale

    def save(self, path: Path) -> None:
        """Write the fitted measure and its variant without kinds. The embedding is code and is not saved."""
        arrays = self._arrays()
        if self.clean is not None:
            arrays |= {f"{_CLEAN}{name}": array for name, array in self.clean._arrays().items()}  # noqa: SLF001  its own
        save_arrays(path, _KIND, arrays)

    def _arrays(self) -> dict[str, NDArray[Any]]:
        fitted = self._fitted
        arrays = {name: np.asarray(getattr(fitted, name)) for name in _NUMBERS if name != "embedded"}
        arrays["embedded"] = np.array(self._embed is not None)
        return arrays | ({} if fitted.transform is None else fitted.transform.arrays())

    @classmethod
    def load(cls, path: Path, embed: Embed | None = None) -> NoveltyMeasure:
        """Read a file that ``save`` wrote; ``embed`` must be the embedding that the measure was fitted with.

        Raises:
            CalibrationError: the file is missing, damaged, of another kind or version, or an embedding is missing or
                superfluous.
        """
        arrays = load_arrays(path, _KIND)
        clean = {name.removeprefix(_CLEAN): array for name, array in arrays.items() if name.startswith(_CLEAN)}
        own = {name: array for name, array in arrays.items() if not name.startswith(_CLEAN)}
        measure = cls._of_arrays(own, embed, path)
        if clean:
            measure._declare(cls._of_arrays(clean, embed, path))  # noqa: SLF001  an alternative constructor
        return measure

    @classmethod
    def _of_arrays(cls, arrays: Mapping[str, NDArray[Any]], embed: Embed | None, path: Path) -> NoveltyMeasure:
        if not set(_NUMBERS) <= set(arrays) or arrays["points"].ndim != 2:
            raise CalibrationError("the novelty file lacks arrays of a novelty measure", private=str(path))
        if bool(arrays["embedded"]) != (embed is not None):
            fitted_with = "with an embedding" if arrays["embedded"] else "without an embedding"
            raise CalibrationError(f"the novelty measure was fitted {fitted_with}")
        transform = transform_of_arrays(arrays) if len(arrays) > len(_NUMBERS) else None
        points, k, dimensions = arrays["points"], int(arrays["k"]), int(arrays["dimensions"])
        if transform is not None and transform.width != dimensions:
            raise CalibrationError("the novelty file lacks arrays of a novelty measure", private=str(path))
        fitted = _FittedNovelty(points, float(arrays["scale"]), k, dimensions, transform)
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


def _transformed(inputs: Floats, transform: InputTransform | None, embed: Embed | None) -> Floats:
    values = inputs if transform is None else transform.apply(inputs)
    return np.ascontiguousarray(values) if embed is None else _features(embed, values)


def _features(embed: Embed, inputs: Floats) -> Floats:
    features = np.ascontiguousarray(embed(inputs), dtype=np.float64)
    if features.ndim != 2 or len(features) != len(inputs) or features.shape[1] == 0:
        raise CalibrationError("the embedding does not give features of shape (rows, features)")
    return features


def _usable(points: Floats) -> bool:
    return bool((np.abs(points) <= LARGEST).all())
