"""Two ways to compare the features of one layer of a network: by position and by direction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.errors import CalibrationError
from modeltoll.leak.nearest_neighbours import Neighbours

if TYPE_CHECKING:
    from modeltoll.records import Floats

__all__ = ["DIRECTION", "FEATURE_VIEWS", "POSITION", "FeatureView", "fit_views"]

POSITION, DIRECTION = FEATURE_VIEWS = ("position", "direction")

_REFERENCES = 2000  # private points whose distances calibrate a view
_FAR = 0.99  # the quantile of these distances that counts as 1
_TINY = 1e-12  # smallest length
_RIDGE = 1e-3  # added to the variance of every direction before whitening, as a fraction of the mean variance
_POINTS_PER_FEATURE = 8  # points that whitening needs for each feature, if there is another view of the layer


@dataclass(frozen=True, slots=True, eq=False)
class FeatureView:
    """One transformation of one layer's features, fitted to the points.

    ``points`` (n, f): (features - ``centre`` (f,)) @ ``mixing`` (f, f) of the points; if ``directed``, the features
    scaled to unit length, and ``mixing`` is empty. ``usual``, ``far``: median and 99th percentile of the distances of private points to the others. The
    field names are those of the arrays in a novelty file.
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
        if self.directed:
            return _unit(features)
        centred = features - self.centre
        return np.concatenate([centred[row : row + 1] @ self.mixing for row in range(len(centred))])


def fit_views(by_layer: list[Floats], private: int, k: int, views: tuple[str, ...]) -> list[FeatureView]:
    """The views of each layer's features (n, f), of which the first ``private`` are of private rows without kinds.

    A wide layer is not whitened where it has another view: its directions could not be estimated from so few points.

    Raises:
        CalibrationError: a layer with constant features, or points without distances.
    """
    return [
        _fit_view(layer, features, private, k, directed=view == DIRECTION)
        for layer, features in enumerate(by_layer)
        for view in views
        if view == DIRECTION or len(views) == 1 or len(features) >= _POINTS_PER_FEATURE * features.shape[1]
    ]


def _fit_view(layer: int, features: Floats, private: int, k: int, *, directed: bool) -> FeatureView:
    """Fit a view of one layer; its scale comes from leave-one-out distances of the private points."""
    width = features.shape[1]
    centre, mixing = (np.zeros(width), np.empty((0, 0))) if directed else _whitening_transform(features)
    points = np.ascontiguousarray(FeatureView(layer, directed, centre, mixing, features, 1.0, 2.0).transform(features))
    own = Neighbours(points).nearest(points[: min(private, _REFERENCES)], k + 1)[0]
    usual, far = float(np.median(own)), float(np.quantile(own, _FAR))
    if not 0.0 < usual < far:
        raise CalibrationError(f"the private points have no distances: most occur more than {k} times")
    return FeatureView(layer, directed, centre, mixing, points, usual, far)


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
