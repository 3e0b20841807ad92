"""Leak measure ``novelty``, layered: the distance of an input to the private data in the layers of a small network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from modeltoll.errors import CalibrationError, RequestError
from modeltoll.leak.array_file import is_kind, load_arrays, save_arrays
from modeltoll.leak.inputs import check_inputs, inputs_of
from modeltoll.leak.nearest_neighbours import Neighbours
from modeltoll.leak.novelty import NoveltyMeasure
from modeltoll.leak.teachers.network_stack import NetworkStack

if TYPE_CHECKING:
    from modeltoll.leak.measure import LeakMeasure
    from modeltoll.records import Evidence, Floats

__all__ = ["FEATURE_VIEWS", "FeatureExtractor", "LayeredNovelty", "load_novelty"]

_KIND = "layered novelty"
_REFERENCES = 2000  # private points whose distances calibrate a view
_FAR = 0.99  # the quantile of these distances that counts as 1
_TINY = 1e-12  # smallest distance or length
_MAX_POWER = 16.0
_RIDGE = 1e-3  # added to the variance of every direction before whitening, as a fraction of the mean variance

DIRECTION = "direction"
FEATURE_VIEWS = ("position", DIRECTION)


class FeatureExtractor(Protocol):
    """A network that maps inputs to the features of its layers."""

    @property
    def dimensions(self) -> int:
        """The length of an input."""

    def features(self, inputs: Floats) -> list[Floats]:
        """The features of inputs (rows, d): one array (rows, f) per layer; rows do not affect each other."""


@dataclass(frozen=True, slots=True, eq=False)
class _FeatureView:
    """One transformation of one layer's features, fitted to the private data.

    ``points`` (n, f): (features - ``centre`` (f,)) @ ``mixing`` (f, f) of the private data, scaled to unit length if
    ``directed``. ``usual``, ``far``: median and 99th percentile of the distances among private points. The field names
    are those of the arrays in a novelty file.
    """

    layer: int
    directed: bool
    centre: Floats
    mixing: Floats
    points: Floats
    usual: float
    far: float

    def transform(self, features: Floats) -> Floats:
        """Transform features (rows, f), one row at a time, because the rounding of a product depends on its size."""
        centred = features - self.centre
        points = np.concatenate([centred[row : row + 1] @ self.mixing for row in range(len(centred))])
        return _unit(points) if self.directed else points


class LayeredNovelty:
    """The distance to the k-th nearest private point over the layers of a network, in two views of each layer.

    In each layer, features are compared by *position* (whitened, so that all directions have equal weight) and by
    *direction* (scaled to unit length, as in Sun et al. 2022: novel inputs may activate a network weakly and lie near
    the centre). A distance is scored on a logarithmic scale: 0 at the median of the private points' distances, 1 at
    their 99th percentile, never below 0. The leak is the p-norm of the scores of all views with p = ``power``: 1 is
    the sum, a large power approaches the maximum. Features are the mean and standard deviation of each channel of a
    convolution, or the units of a dense layer. Early layers distinguish textures and late layers classes, so that
    out-of-distribution rows differ in some layer (after Sastry and Oore 2020, who compare Gram matrices of all layers).
    """

    inputs_alone: ClassVar[bool] = True

    __slots__ = ("_extractor", "_k", "_power", "_searches", "_views", "name")

    def __init__(  # noqa: PLR0913  each is an independent choice with a default
        self,
        extractor: FeatureExtractor,
        private: Floats,
        k: int = 5,
        *,
        views: tuple[str, ...] = FEATURE_VIEWS,
        power: float = 2.0,
        max_points: int = 5_000,
        seed: int = 0,
    ) -> None:
        """Fit to private inputs of shape (n, d).

        Args:
            extractor: a network trained on the private data, such as ``distil.fit_novelty_network`` returns. A measure
                can be saved only if this is a ``NetworkStack``.
            private: the victim's training inputs.
            k: the rank of the neighbour whose distance is taken.
            views: ``position``, ``direction``, or both.
            power: exponent of the norm over views, 1 to 16.
            max_points: size of the random sample that is kept of more points.
            seed: of that sample.

        Raises:
            CalibrationError: unusable private data, not more than k points, a layer with constant features, an unknown
                view, or a power out of range.
        """
        try:
            inputs = check_inputs(private, extractor.dimensions)
        except RequestError as error:
            raise CalibrationError(f"the private data cannot be used: {error}") from None
        if not 1 <= k < min(len(inputs), max_points):
            raise CalibrationError(f"distances to neighbour {k} need more than {len(inputs)} private points")
        if not views or not set(views) <= set(FEATURE_VIEWS) or not 1.0 <= power <= _MAX_POWER:
            raise CalibrationError(f"views are {' and '.join(FEATURE_VIEWS)}, and 'power' lies in 1..{_MAX_POWER:g}")
        rng = np.random.default_rng(seed)
        by_layer = extractor.features(inputs[rng.permutation(len(inputs))[:max_points]])
        fitted = [
            _fit_view(layer, features, k, directed=view == DIRECTION)
            for layer, features in enumerate(by_layer)
            for view in views
        ]
        self._install(extractor, fitted, k, power)

    def _install(self, extractor: FeatureExtractor, views: list[_FeatureView], k: int, power: float) -> None:
        self.name = "novelty"
        self._extractor, self._views, self._k, self._power = extractor, views, k, power
        self._searches = [Neighbours(view.points) for view in views]

    @property
    def input_width(self) -> int:
        """How many numbers a row has."""
        return self._extractor.dimensions

    def measure(self, evidence: Evidence) -> Floats:
        """The novelty of each row's input, shape (rows,), 0 or more.

        Raises:
            RequestError: the inputs are missing, not finite, of another number of dimensions, or so large that the
                features overflow.
        """
        total = np.zeros(evidence.rows)
        by_layer = self._extractor.features(inputs_of(evidence, self._extractor.dimensions))
        for view, search in zip(self._views, self._searches, strict=True):
            points = view.transform(by_layer[view.layer])
            if not (np.abs(points) < 1e100).all():
                raise RequestError("the inputs are too large for the novelty network")
            distances = np.maximum(search.nearest(points, self._k)[0], _TINY)
            score = np.log(distances / view.usual) / math.log(view.far / view.usual)
            total += np.maximum(score, 0.0) ** self._power
        return np.asarray(total ** (1.0 / self._power))

    def save(self, path: Path) -> None:
        """Write the fitted measure, including its network.

        Raises:
            CalibrationError: the extractor is not a ``NetworkStack``.
        """
        if not isinstance(self._extractor, NetworkStack):
            raise CalibrationError("only a network that fit-novelty trained can be saved with its measure")
        arrays = self._extractor.arrays() | {"k": np.array(self._k), "power": np.array(self._power)}
        for i, view in enumerate(self._views):
            arrays |= {f"view{i}_{name}": np.asarray(getattr(view, name)) for name in _FeatureView.__slots__}
        save_arrays(path, _KIND, arrays)

    @classmethod
    def load(cls, path: Path) -> LayeredNovelty:
        """Read a file that ``save`` wrote.

        Raises:
            CalibrationError: the file is missing, damaged, or of another kind or version.
        """
        arrays = load_arrays(path, _KIND)
        stack = NetworkStack.of_arrays(arrays)
        widths = [features.shape[1] for features in stack.features(np.zeros((1, stack.dimensions)))]
        count = sum(name.startswith("view") and name.endswith("_layer") for name in arrays)
        views = [
            _view({name: arrays.get(f"view{i}_{name}") for name in _FeatureView.__slots__}, widths)
            for i in range(count)
        ]
        k, power = arrays.get("k", np.array(0)), arrays.get("power", np.array(0.0))
        if not views or k.ndim or not 1 <= int(k) < len(views[0].points):
            raise CalibrationError("the novelty file lacks a usable k", private=str(path))
        if power.ndim or not 1.0 <= float(power) <= _MAX_POWER:
            raise CalibrationError("the novelty file lacks a usable power", private=str(path))
        measure = cls.__new__(cls)
        measure._install(stack, views, int(k), float(power))  # noqa: SLF001  an alternative constructor
        return measure


def _view(found: Mapping[str, NDArray[Any] | None], widths: Sequence[int]) -> _FeatureView:
    """A view from the arrays of a novelty file, for a network whose layers have the given widths."""
    arrays = [found[name] for name in _FeatureView.__slots__]
    if any(array is None for array in arrays):
        raise CalibrationError("the novelty file lacks part of a view")
    layer, directed, centre, mixing, points, usual, far = (np.asarray(array) for array in arrays)
    if layer.ndim or not 0 <= int(layer) < len(widths):
        raise CalibrationError("a view in the novelty file refers to a layer that its network does not have")
    width = widths[int(layer)]
    shapes = centre.shape == (width,) and mixing.shape == (width, width) and points.shape[1:] == (width,)
    if not shapes or not 0.0 < float(usual) < float(far):
        raise CalibrationError("a view in the novelty file does not fit its network")
    return _FeatureView(int(layer), bool(directed), centre, mixing, points, float(usual), float(far))


def load_novelty(path: Path) -> LeakMeasure:
    """Load a novelty measure of either type: layered, or plain without an embedding.

    Raises:
        CalibrationError: the file is missing, damaged, or of another kind or version.
    """
    return LayeredNovelty.load(path) if is_kind(path, _KIND) else NoveltyMeasure.load(path)


def _fit_view(layer: int, features: Floats, k: int, *, directed: bool) -> _FeatureView:
    """Fit a view of one layer; its scale comes from leave-one-out distances of the private points."""
    width = features.shape[1]
    centre, mixing = (np.zeros(width), np.eye(width)) if directed else _whitening_transform(features)
    points = np.ascontiguousarray(_FeatureView(layer, directed, centre, mixing, features, 1.0, 2.0).transform(features))
    own = Neighbours(points).nearest(points[:_REFERENCES], k + 1)[0]
    usual, far = float(np.median(own)), float(np.quantile(own, _FAR))
    if not 0.0 < usual < far:
        raise CalibrationError(f"the private points have no distances: most occur more than {k} times")
    return _FeatureView(layer, directed, centre, mixing, points, usual, far)


def _whitening_transform(features: Floats) -> tuple[Floats, Floats]:
    centre = features.mean(axis=0)
    spread = np.atleast_2d(np.cov(features, rowvar=False))
    ridge = _RIDGE * float(np.trace(spread)) / len(spread)
    if not ridge > 0.0:
        raise CalibrationError("a layer of the network has the same features for all private points")
    return centre, np.linalg.cholesky(np.linalg.inv(spread + ridge * np.eye(len(spread))))


def _unit(points: Floats) -> Floats:
    """Scale rows to length 1; a row of zeros stays as it is."""
    lengths = np.sqrt(np.einsum("ij,ij->i", points, points))[:, None]
    return np.asarray(points / np.maximum(lengths, _TINY))
