"""How far an input lies from the private data in what a small network sees of it, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.errors import CalibrationError, RequestError
from modeltoll.leak.inputs import check_inputs, inputs_of
from modeltoll.leak.neighbours import Neighbours
from modeltoll.leak.novelty import NoveltyMeasure
from modeltoll.leak.stack import Stack
from modeltoll.leak.store import is_kind, load_arrays, save_arrays

if TYPE_CHECKING:
    from modeltoll.leak.measure import LeakMeasure
    from modeltoll.records import Evidence, Floats

__all__ = ["LayeredNovelty", "load_novelty"]

_KIND = "layered novelty"
_REFERENCES = 2000  # private points whose own distances the units are taken from
_FAR = 0.99  # the quantile of them that counts as 2
_RIDGE = 1e-3  # added to the variance of every direction, in parts of the mean variance, before whitening


@dataclass(frozen=True, slots=True, eq=False)
class _Layer:
    """``points`` (n, f) are whitened features of private inputs: (features - ``centre`` (f,)) @ ``mixing`` (f, f).

    ``usual`` and ``far`` are the median and the 99th percentile of the private points' own distances.
    """

    centre: Floats
    mixing: Floats
    points: Floats
    usual: float
    far: float


class LayeredNovelty:
    """The largest, over the layers of a network, of how unusual the distance to the k-th nearest private point is.

    In each layer 1 is the median of the private points' own such distances and 2 their 99th percentile, on a straight
    scale, cut off at 0. Features are the mean and deviation of each channel of a convolution, or the units of a full
    layer, whitened. Early layers tell textures and late ones tell kinds, and a thief's rows are strange in some layer
    or other (after Sastry and Oore 2020, who compare Gram matrices of all layers).
    """

    __slots__ = ("_k", "_layers", "_searches", "_stack", "name")

    def __init__(self, stack: Stack, private: Floats, k: int = 5, *, max_points: int = 10_000, seed: int = 0) -> None:
        """Fit to private inputs of shape (n, d).

        Args:
            stack: one network, trained on the private data; ``distil.fit_observer`` makes one.
            private: the inputs that the victim was trained on.
            k: which neighbour's distance counts.
            max_points: keep a random part of this size where there are more points.
            seed: of the choice of points.

        Raises:
            CalibrationError: private data that cannot be used, fewer points than k, or a layer that sees no difference.
        """
        try:
            inputs = check_inputs(private, stack.dimensions)
        except RequestError as error:
            raise CalibrationError(f"the private data cannot be used: {error}") from None
        if not 1 <= k < min(len(inputs), max_points):
            raise CalibrationError(f"distances to neighbour {k} need more than {len(inputs)} private points")
        rng = np.random.default_rng(seed)
        chosen = inputs[rng.permutation(len(inputs))[:max_points]]
        self._install(stack, [_fit(features, k) for features in stack.features(chosen)], k)

    def _install(self, stack: Stack, layers: list[_Layer], k: int) -> None:
        self.name = "novelty"
        self._stack, self._layers, self._k = stack, layers, k
        self._searches = [Neighbours(layer.points) for layer in layers]

    def measure(self, evidence: Evidence) -> Floats:
        """The novelty of each row's input, shape (rows,), 0 or more.

        Raises:
            RequestError: the inputs are missing, not finite, of another number of dimensions, or so large that the
                network has no finite answer.
        """
        worst = np.zeros(evidence.rows)
        every = self._stack.features(inputs_of(evidence, self._stack.dimensions))
        for features, layer, search in zip(every, self._layers, self._searches, strict=True):
            moved = features - layer.centre
            points = np.concatenate([moved[row : row + 1] @ layer.mixing for row in range(len(moved))])
            if not (np.abs(points) < 1e100).all():
                raise RequestError("the inputs are too large for the network that looks at them")
            distances = search.nearest(points, self._k)[0]
            np.maximum(worst, 1.0 + (distances - layer.usual) / (layer.far - layer.usual), out=worst)
        return worst

    def save(self, path: Path) -> None:
        """Write the fitted measure, its network included."""
        arrays = self._stack.arrays() | {"k": np.array(self._k)}
        for i, layer in enumerate(self._layers):
            arrays |= {f"layer{i}_{name}": np.asarray(getattr(layer, name)) for name in _Layer.__slots__}
        save_arrays(path, _KIND, arrays)

    @classmethod
    def load(cls, path: Path) -> LayeredNovelty:
        """Read what ``save`` wrote.

        Raises:
            CalibrationError: the file is missing, damaged, or of another kind or version.
        """
        arrays = load_arrays(path, _KIND)
        stack = Stack.of_arrays(arrays)
        widths = [features.shape[1] for features in stack.features(np.zeros((1, stack.dimensions)))]
        names = [{name: arrays.get(f"layer{i}_{name}") for name in _Layer.__slots__} for i in range(len(widths))]
        layers = []
        for width, found in zip(widths, names, strict=True):
            centre, mixing, points, usual, far = (found[name] for name in _Layer.__slots__)
            if centre is None or mixing is None or points is None or usual is None or far is None:
                raise CalibrationError("the novelty file lacks a layer", private=str(path))
            shapes = centre.shape == (width,) and mixing.shape == (width, width) and points.shape[1:] == (width,)
            if not shapes or not 0.0 < float(usual) < float(far):
                raise CalibrationError("a layer in the novelty file does not fit its network", private=str(path))
            layers.append(_Layer(centre, mixing, points, float(usual), float(far)))
        k = arrays.get("k", np.array(0))
        if k.ndim or not 1 <= int(k) < len(layers[0].points):
            raise CalibrationError("the novelty file lacks a usable k", private=str(path))
        measure = cls.__new__(cls)
        measure._install(stack, layers, int(k))  # noqa: SLF001  its own: a second way to be made
        return measure


def load_novelty(path: Path) -> LeakMeasure:
    """The novelty measure in a file, whichever it is: layered, or plain and without an embedding.

    Raises:
        CalibrationError: the file is missing, damaged, or of another kind or version.
    """
    return LayeredNovelty.load(path) if is_kind(path, _KIND) else NoveltyMeasure.load(path)


def _fit(features: Floats, k: int) -> _Layer:
    """Whiten the features of one layer, and take the units from the points' own distances, each without itself."""
    centre = features.mean(axis=0)
    spread = np.atleast_2d(np.cov(features, rowvar=False))
    ridge = _RIDGE * float(np.trace(spread)) / len(spread)
    if not ridge > 0.0:
        raise CalibrationError("a layer of the network tells no two private points apart")
    mixing = np.linalg.cholesky(np.linalg.inv(spread + ridge * np.eye(len(spread))))
    points = np.ascontiguousarray((features - centre) @ mixing)
    own = Neighbours(points).nearest(points[:_REFERENCES], k + 1)[0]
    usual, far = float(np.median(own)), float(np.quantile(own, _FAR))
    if not 0.0 < usual < far:
        raise CalibrationError(f"the private points have no distances: most occur more than {k} times")
    return _Layer(centre, mixing, points, usual, far)
