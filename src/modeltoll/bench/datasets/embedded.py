"""Data sets embedded in scikit-learn: digits, a table, and patches of two photographs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from modeltoll.bench.datasets.images import Images
from modeltoll.bench.datasets.resize import LUMA

if TYPE_CHECKING:
    from modeltoll.records import Floats

__all__ = ["cells", "digits", "photograph_patches"]


def digits() -> Images:
    """The 1797 handwritten digits of 8 x 8 pixels in scikit-learn (UCI Optical Recognition, test part)."""
    from sklearn.datasets import load_digits  # noqa: PLC0415  scikit-learn is slow to import and optional here

    bunch: Any = load_digits()
    return Images(np.asarray(bunch.images, np.float64) / 16.0, np.asarray(bunch.target, np.int64))


def cells() -> Images:
    """A table as images (569, 1, 30): the breast cancer biopsies in scikit-learn (UCI WDBC), columns scaled to 0..1."""
    from sklearn.datasets import load_breast_cancer  # noqa: PLC0415

    bunch: Any = load_breast_cancer()
    low, high = bunch.data.min(axis=0), bunch.data.max(axis=0)
    return Images(((bunch.data - low) / (high - low))[:, None], np.asarray(bunch.target, np.int64))


def photograph_patches(count: int, side: int, rng: np.random.Generator) -> Floats:
    """Grey patches (count, side, side), cut at random scales and positions from scikit-learn's two photographs.

    Each is rescaled to the full range 0..1, so that it cannot be recognised by its brightness.
    """
    from sklearn.datasets import load_sample_images  # noqa: PLC0415

    bunch: Any = load_sample_images()
    photographs = [np.asarray(image, np.float64) @ LUMA / 255.0 for image in bunch.images]
    patches = np.empty((count, side, side))
    for patch in patches:
        photograph = photographs[rng.integers(len(photographs))]
        size = side * int(rng.integers(1, 9))
        top, left = (int(rng.integers(extent - size)) for extent in photograph.shape)
        cut = photograph[top : top + size, left : left + size]
        patch[:] = cut.reshape(side, size // side, side, size // side).mean(axis=(1, 3))
        low, high = patch.min(), patch.max()
        patch[:] = (patch - low) / (high - low) if high > low else 0.0
    return patches
