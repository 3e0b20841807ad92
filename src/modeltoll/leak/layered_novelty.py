"""Leak measure ``novelty``, layered: the distance of an input to the private data in the layers of a small network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from modeltoll.errors import CalibrationError, RequestError
from modeltoll.leak.array_file import is_kind, load_arrays, save_arrays
from modeltoll.leak.feature_views import FEATURE_VIEWS, FeatureView, fit_views
from modeltoll.leak.inputs import check_inputs, inputs_of
from modeltoll.leak.kind_points import NO_KIND_ROWS, choose_points
from modeltoll.leak.nearest_neighbours import Neighbours
from modeltoll.leak.novelty import NoveltyMeasure
from modeltoll.leak.novelty_network import FittedExtractor, NoveltyNetwork
from modeltoll.names import clean_name

if TYPE_CHECKING:
    from modeltoll.leak.kind_points import KindRows
    from modeltoll.leak.measure import LeakMeasure
    from modeltoll.leak.novelty_network import FeatureExtractor
    from modeltoll.records import Evidence, Floats, Progress

__all__ = ["FEATURE_VIEWS", "LayeredNovelty", "NoveltyTerms", "load_novelty"]

_KIND = "layered novelty"
_TINY = 1e-12  # smallest distance
_MAX_POWER = 16.0
_ROWS = 100  # private rows whose features are computed between two reports of progress
_CLEAN = "clean_"  # begins the names of the arrays of the variant without kinds


@dataclass(frozen=True, slots=True)
class NoveltyTerms:
    """How layered novelty compares.

    ``k``: the rank of the neighbour whose distance is taken. ``views``: ``position``, ``direction``, or both.
    ``power``: exponent of the norm over views, 1 to 16. ``max_points``: size of the random sample that is kept of more
    points. ``seed``: of that sample.

    Raises:
        CalibrationError: an unknown view, or a power out of range.
    """

    k: int = 5
    views: tuple[str, ...] = FEATURE_VIEWS
    power: float = 2.0
    max_points: int = 5_000
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.views or not set(self.views) <= set(FEATURE_VIEWS) or not 1.0 <= self.power <= _MAX_POWER:
            raise CalibrationError(f"views are {' and '.join(FEATURE_VIEWS)}, and 'power' lies in 1..{_MAX_POWER:g}")


class LayeredNovelty:
    """The distance to the k-th nearest private point over the layers of a network, in two views of each layer.

    In each layer, features are compared by *position* (whitened, so that all directions have equal weight) and by
    *direction* (scaled to unit length, as in Sun et al. 2022: novel inputs may activate a network weakly and lie near
    the centre). A distance is scored on a logarithmic scale: 0 at the median of the private points' distances, 1 at
    their 99th percentile, never below 0. The leak is the p-norm of the scores of all views with p = ``power``: 1 is
    the sum, a large power approaches the maximum. Features are the mean and standard deviation of each channel of a
    convolution, or the units of a dense layer. Early layers distinguish textures and late layers classes, so that
    out-of-distribution rows differ in some layer (after Sastry and Oore 2020, who compare Gram matrices of all layers).

    With kinds of honest rows, half of the points are of these kinds, so that such rows are near some point. ``clean``
    is then the same measure without kinds, named ``novelty:clean``; else None. ``kinds`` are their names.
    """

    inputs_alone: ClassVar[bool] = True

    __slots__ = ("_extractor", "_k", "_power", "_searches", "_views", "clean", "kinds", "name")

    def __init__(
        self,
        extractor: FeatureExtractor,
        private: Floats,
        terms: NoveltyTerms = NoveltyTerms(),
        *,
        kinds: KindRows = NO_KIND_ROWS,
        clean: LayeredNovelty | None = None,
        progress: Progress = lambda _done, _total: None,
    ) -> None:
        """Fit to private inputs of shape (n, d).

        Args:
            extractor: a network trained on the private data, and on their kinds. A measure can be saved only if this is
                a ``NoveltyNetwork``, such as ``fit_novelty`` makes.
            private: the victim's training inputs.
            terms: how to compare.
            kinds: rows (m, d) of each declared kind of honest callers, by name.
            clean: the variant without kinds; by default it is fitted with the same network.
            progress: called while the features of the points are computed.

        Raises:
            CalibrationError: unusable private data, not more than k points, or a layer with constant features.
        """
        missing = getattr(extractor, "reads_missing", False) is True
        try:
            inputs = check_inputs(private, extractor.dimensions, missing=missing)
            rows = {name: check_inputs(each, extractor.dimensions, missing=missing) for name, each in kinds.items()}
        except RequestError as error:
            raise CalibrationError(f"the private data cannot be used: {error}") from None
        if not 1 <= terms.k < min(len(inputs), terms.max_points):
            raise CalibrationError(f"distances to neighbour {terms.k} need more than {len(inputs)} private points")
        points, private_points = choose_points(inputs, rows, terms.max_points, np.random.default_rng(terms.seed))
        by_layer = _features(extractor, points, private_points, progress)
        views = fit_views(by_layer, private_points, terms.k, terms.views)
        if rows and clean is None:
            clean = LayeredNovelty(extractor, private, terms)
        self._install(extractor, views, terms.k, terms.power)
        self._declare(tuple(rows), clean if rows else None)

    def _install(self, extractor: FeatureExtractor, views: list[FeatureView], k: int, power: float) -> None:
        self.name = "novelty"
        self._extractor, self._views, self._k, self._power = extractor, views, k, power
        self._searches = [Neighbours(view.points) for view in views]
        self.kinds: tuple[str, ...] = ()
        self.clean: LayeredNovelty | None = None

    def _declare(self, kinds: tuple[str, ...], clean: LayeredNovelty | None) -> None:
        """Take the kinds' names and the variant without them, under its own name."""
        self.kinds = kinds
        if clean is not None:
            self.clean = LayeredNovelty.__new__(LayeredNovelty)
            self.clean._install(clean._extractor, clean._views, clean._k, clean._power)  # noqa: SLF001  a renamed copy
            self.clean.name = clean_name(self.name)

    @property
    def input_width(self) -> int:
        """How many numbers a row has."""
        return self._extractor.dimensions

    @property
    def reads_missing(self) -> bool:
        """Whether a row may have missing values (NaN)."""
        return getattr(self._extractor, "reads_missing", False) is True

    def measure(self, evidence: Evidence) -> Floats:
        """The novelty of each row's input, shape (rows,), 0 or more.

        Raises:
            RequestError: the inputs are missing, not finite, of another number of dimensions, or so large that the
                features overflow.
        """
        total = np.zeros(evidence.rows)
        inputs = inputs_of(evidence, self._extractor.dimensions, missing=self.reads_missing)
        by_layer = self._extractor.features(inputs)
        for view, search in zip(self._views, self._searches, strict=True):
            points = view.transform(by_layer[view.layer])
            if not (np.abs(points) < 1e100).all():
                raise RequestError("the inputs are too large for the novelty network")
            distances = np.maximum(search.nearest(points, self._k)[0], _TINY)
            score = np.log(distances / view.usual) / math.log(view.far / view.usual)
            total += np.maximum(score, 0.0) ** self._power
        return np.asarray(total ** (1.0 / self._power))

    def save(self, path: Path) -> None:
        """Write the fitted measure, including its network and its variant without kinds.

        Raises:
            CalibrationError: the extractor is not a ``NoveltyNetwork``.
        """
        arrays = self._arrays() | {"kinds": np.array(self.kinds, dtype=np.str_)}
        if self.clean is not None:
            arrays |= {f"{_CLEAN}{name}": array for name, array in self.clean._arrays().items()}  # noqa: SLF001  its own
        save_arrays(path, _KIND, arrays)

    def _arrays(self) -> dict[str, NDArray[Any]]:
        if not isinstance(self._extractor, NoveltyNetwork):
            raise CalibrationError("only a network that fit-novelty trained can be saved with its measure")
        arrays = self._extractor.arrays() | {"k": np.array(self._k), "power": np.array(self._power)}
        for i, view in enumerate(self._views):
            arrays |= {f"view{i}_{name}": np.asarray(getattr(view, name)) for name in FeatureView.__slots__}
        return arrays

    @classmethod
    def load(cls, path: Path) -> LayeredNovelty:
        """Read a file that ``save`` wrote.

        Raises:
            CalibrationError: the file is missing, damaged, or of another kind or version.
        """
        arrays = load_arrays(path, _KIND)
        clean = {name.removeprefix(_CLEAN): array for name, array in arrays.items() if name.startswith(_CLEAN)}
        measure = cls._of_arrays({name: array for name, array in arrays.items() if not name.startswith(_CLEAN)}, path)
        kinds = tuple(np.atleast_1d(arrays.get("kinds", np.array([], np.str_))).tolist())
        if bool(kinds) != bool(clean):
            raise CalibrationError(
                "the novelty file has kinds without its variant fitted without them, or that variant alone"
            )
        measure._declare(kinds, cls._of_arrays(clean, path) if clean else None)  # noqa: SLF001  an alternative constructor
        return measure

    @classmethod
    def _of_arrays(cls, arrays: Mapping[str, NDArray[Any]], path: Path) -> LayeredNovelty:
        network = NoveltyNetwork.of_arrays(arrays)
        widths = [features.shape[1] for features in network.features(np.zeros((1, network.dimensions)))]
        count = sum(name.startswith("view") and name.endswith("_layer") for name in arrays)
        views = [
            _view({name: arrays.get(f"view{i}_{name}") for name in FeatureView.__slots__}, widths) for i in range(count)
        ]
        k, power = arrays.get("k", np.array(0)), arrays.get("power", np.array(0.0))
        if not views or k.ndim or not 1 <= int(k) < len(views[0].points):
            raise CalibrationError("the novelty file lacks a usable k", private=str(path))
        if power.ndim or not 1.0 <= float(power) <= _MAX_POWER:
            raise CalibrationError("the novelty file lacks a usable power", private=str(path))
        measure = cls.__new__(cls)
        measure._install(network, views, int(k), float(power))  # noqa: SLF001  an alternative constructor
        return measure


def _features(extractor: FeatureExtractor, points: Floats, private: int, progress: Progress) -> list[Floats]:
    """The features of points (n, d) in each layer, (n, f). The first ``private`` of them are private rows."""
    of_own = extractor.features_of_own if isinstance(extractor, FittedExtractor) else extractor.features
    parts = []
    for features, start, end in ((of_own, 0, private), (extractor.features, private, len(points))):
        for first in range(start, end, _ROWS):
            last = min(first + _ROWS, end)
            parts.append(features(points[first:last]))
            progress(last, len(points))
    return [np.concatenate(same) for same in zip(*parts, strict=True)]


def _view(found: Mapping[str, NDArray[Any] | None], widths: Sequence[int]) -> FeatureView:
    """A view from the arrays of a novelty file, for a network whose layers have the given widths."""
    arrays = [found[name] for name in FeatureView.__slots__]
    if any(array is None for array in arrays):
        raise CalibrationError("the novelty file lacks part of a view")
    layer, directed, centre, mixing, points, usual, far = (np.asarray(array) for array in arrays)
    if layer.ndim or not 0 <= int(layer) < len(widths):
        raise CalibrationError("a view in the novelty file refers to a layer that its network does not have")
    width = widths[int(layer)]
    mixed = (0, 0) if directed else (width, width)
    shapes = centre.shape == (width,) and mixing.shape == mixed and points.shape[1:] == (width,)
    if not shapes or not 0.0 < float(usual) < float(far):
        raise CalibrationError("a view in the novelty file does not fit its network")
    return FeatureView(int(layer), bool(directed), centre, mixing, points, float(usual), float(far))


def load_novelty(path: Path) -> LeakMeasure:
    """Load a novelty measure of either type: layered, or plain without an embedding.

    Raises:
        CalibrationError: the file is missing, damaged, or of another kind or version.
    """
    return LayeredNovelty.load(path) if is_kind(path, _KIND) else NoveltyMeasure.load(path)
