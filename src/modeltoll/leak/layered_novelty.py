"""How far an input lies from the private data in what a small network sees of it, layer by layer."""

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
_REFERENCES = 2000  # private points whose own distances the units are taken from
_FAR = 0.99  # the quantile of them that counts as 1
_TINY = 1e-12  # of a distance or a length
_MOST_POWER = 16.0
_RIDGE = 1e-3  # added to the variance of every direction, in parts of the mean variance, before whitening

DIRECTION = "direction"
FEATURE_VIEWS = ("position", DIRECTION)


class FeatureExtractor(Protocol):
    """A network that looks at inputs."""

    @property
    def dimensions(self) -> int:
        """The length of an input."""

    def features(self, inputs: Floats) -> list[Floats]:
        """What each layer sees of inputs (rows, d), (rows, f) each, row by row."""


@dataclass(frozen=True, slots=True, eq=False)
class _FeatureView:
    """One layer seen in one way: ``points`` (n, f) are (features - ``centre`` (f,)) @ ``mixing`` (f, f), of unit length
    where ``directed``.

    ``usual`` and ``far`` are the median and the 99th percentile of the private points' own distances.
    """

    layer: int
    directed: bool
    centre: Floats
    mixing: Floats
    points: Floats
    usual: float
    far: float

    def seen(self, features: Floats) -> Floats:
        """Features (rows, f) as they are seen here; each row by itself, for a product may round a batch otherwise."""
        moved = features - self.centre
        points = np.concatenate([moved[row : row + 1] @ self.mixing for row in range(len(moved))])
        return _unit(points) if self.directed else points


class LayeredNovelty:
    """How unusual the distances to the k-th nearest private point are, over the layers of a network, each seen twice.

    In each layer features are compared by *position* (whitened, so that every direction counts alike) and by
    *direction* (of unit length, as in Sun et al. 2022: what is strange to a network may excite it little, and lies near
    the centre). A distance counts 0 at the median of the private points' own and 1 at their 99th percentile, on a
    logarithmic scale, and never less than 0. The leak is the root of the sum of all views' ``power``-th powers: a large
    power takes the strangest view, 1 adds them up. Features are the mean and deviation of each channel of a
    convolution, or the units of a full layer. Early layers tell textures and late ones tell kinds, and a thief's rows
    are strange in some layer or other (after Sastry and Oore 2020, who compare Gram matrices of all layers).
    """

    inputs_alone: ClassVar[bool] = True

    __slots__ = ("_k", "_lens", "_power", "_searches", "_views", "name")

    def __init__(  # noqa: PLR0913  each is an independent choice with a default
        self,
        lens: FeatureExtractor,
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
            lens: one network, trained on the private data; ``distil.fit_observer`` makes one, a ``NetworkStack``. Only such a
                measure can be saved.
            private: the inputs that the victim was trained on.
            k: which neighbour's distance counts.
            views: ``position``, ``direction``, or both.
            power: of the views' sum, 1 or more.
            max_points: keep a random part of this size where there are more points.
            seed: of the choice of points.

        Raises:
            CalibrationError: private data that cannot be used, fewer points than k, a layer that sees no difference,
                no such view, or no such power.
        """
        try:
            inputs = check_inputs(private, lens.dimensions)
        except RequestError as error:
            raise CalibrationError(f"the private data cannot be used: {error}") from None
        if not 1 <= k < min(len(inputs), max_points):
            raise CalibrationError(f"distances to neighbour {k} need more than {len(inputs)} private points")
        if not views or not set(views) <= set(FEATURE_VIEWS) or not 1.0 <= power <= _MOST_POWER:
            raise CalibrationError(f"views are {' and '.join(FEATURE_VIEWS)}, and 'power' lies in 1..{_MOST_POWER:g}")
        rng = np.random.default_rng(seed)
        every = lens.features(inputs[rng.permutation(len(inputs))[:max_points]])
        fitted = [
            _fit_view(layer, features, k, directed=view == DIRECTION)
            for layer, features in enumerate(every)
            for view in views
        ]
        self._install(lens, fitted, k, power)

    def _install(self, lens: FeatureExtractor, views: list[_FeatureView], k: int, power: float) -> None:
        self.name = "novelty"
        self._lens, self._views, self._k, self._power = lens, views, k, power
        self._searches = [Neighbours(view.points) for view in views]

    def measure(self, evidence: Evidence) -> Floats:
        """The novelty of each row's input, shape (rows,), 0 or more.

        Raises:
            RequestError: the inputs are missing, not finite, of another number of dimensions, or so large that the
                network has no finite answer.
        """
        total = np.zeros(evidence.rows)
        every = self._lens.features(inputs_of(evidence, self._lens.dimensions))
        for view, search in zip(self._views, self._searches, strict=True):
            points = view.seen(every[view.layer])
            if not (np.abs(points) < 1e100).all():
                raise RequestError("the inputs are too large for the network that looks at them")
            distances = np.maximum(search.nearest(points, self._k)[0], _TINY)
            strange = np.log(distances / view.usual) / math.log(view.far / view.usual)
            total += np.maximum(strange, 0.0) ** self._power
        return np.asarray(total ** (1.0 / self._power))

    def save(self, path: Path) -> None:
        """Write the fitted measure, its network included.

        Raises:
            CalibrationError: the network is none of ours, and stays with its owner.
        """
        if not isinstance(self._lens, NetworkStack):
            raise CalibrationError("only a network that fit-novelty trained can be saved with its measure")
        arrays = self._lens.arrays() | {"k": np.array(self._k), "power": np.array(self._power)}
        for i, view in enumerate(self._views):
            arrays |= {f"view{i}_{name}": np.asarray(getattr(view, name)) for name in _FeatureView.__slots__}
        save_arrays(path, _KIND, arrays)

    @classmethod
    def load(cls, path: Path) -> LayeredNovelty:
        """Read what ``save`` wrote.

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
        if power.ndim or not 1.0 <= float(power) <= _MOST_POWER:
            raise CalibrationError("the novelty file lacks a usable power", private=str(path))
        measure = cls.__new__(cls)
        measure._install(stack, views, int(k), float(power))  # noqa: SLF001  its own: a second way to be made
        return measure


def _view(found: Mapping[str, NDArray[Any] | None], widths: Sequence[int]) -> _FeatureView:
    """A view from the arrays of a file, for a network whose layers have these widths."""
    arrays = [found[name] for name in _FeatureView.__slots__]
    if any(array is None for array in arrays):
        raise CalibrationError("the novelty file lacks part of a view")
    layer, directed, centre, mixing, points, usual, far = (np.asarray(array) for array in arrays)
    if layer.ndim or not 0 <= int(layer) < len(widths):
        raise CalibrationError("a view in the novelty file is of no layer of its network")
    width = widths[int(layer)]
    shapes = centre.shape == (width,) and mixing.shape == (width, width) and points.shape[1:] == (width,)
    if not shapes or not 0.0 < float(usual) < float(far):
        raise CalibrationError("a view in the novelty file does not fit its network")
    return _FeatureView(int(layer), bool(directed), centre, mixing, points, float(usual), float(far))


def load_novelty(path: Path) -> LeakMeasure:
    """The novelty measure in a file, whichever it is: layered, or plain and without an embedding.

    Raises:
        CalibrationError: the file is missing, damaged, or of another kind or version.
    """
    return LayeredNovelty.load(path) if is_kind(path, _KIND) else NoveltyMeasure.load(path)


def _fit_view(layer: int, features: Floats, k: int, *, directed: bool) -> _FeatureView:
    """See one layer in one way, and take the units from the points' own distances, each without itself."""
    width = features.shape[1]
    centre, mixing = (np.zeros(width), np.eye(width)) if directed else _whitening_transform(features)
    points = np.ascontiguousarray(_FeatureView(layer, directed, centre, mixing, features, 1.0, 2.0).seen(features))
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
        raise CalibrationError("a layer of the network tells no two private points apart")
    return centre, np.linalg.cholesky(np.linalg.inv(spread + ridge * np.eye(len(spread))))


def _unit(points: Floats) -> Floats:
    """Rows of length 1; a row of zeros has no direction and stays."""
    lengths = np.sqrt(np.einsum("ij,ij->i", points, points))[:, None]
    return np.asarray(points / np.maximum(lengths, _TINY))
