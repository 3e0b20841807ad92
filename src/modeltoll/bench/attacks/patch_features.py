"""An embedding of images that needs no network and no data but public images: responses to their own whitened patches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

if TYPE_CHECKING:
    from modeltoll.records import Floats

__all__ = ["PatchFeatures", "fit_patch_features"]

_SIDE = 6  # of a patch, less where the image is smaller
_SAMPLE = 20_000  # patches that the whitening is fitted to
_ROWS = 200  # images embedded at a time
_BRIGHTNESS, _WHITENING = 10.0 / 255**2, 0.1  # regularise the contrast of a patch, and the whitening


@dataclass(frozen=True, slots=True, eq=False)
class PatchFeatures:
    """A single layer: whitened patches, random ones of them as filters, both signs, means of the four quadrants.

    Coates, Ng and Lee 2011, *An analysis of single-layer networks in unsupervised feature learning*, with filters taken
    at random from the whitened patches (Coates and Ng 2011, *The importance of encoding versus training*, section 3.2).
    ``centre`` (d,) and ``whitening`` (d, d) are those of patches of ``sides``; ``filters`` (d, k).
    """

    sides: tuple[int, int]
    centre: Floats
    whitening: Floats
    filters: Floats

    def embed(self, images: Floats) -> Floats:
        """Features (n, 8 k), float64, of images (n, height, width) or (n, height, width, 3)."""
        parts = [self._embed(images[start : start + _ROWS]) for start in range(0, len(images), _ROWS)]
        return np.concatenate([np.empty((0, 8 * self.filters.shape[1])), *parts])

    def _embed(self, images: Floats) -> Floats:
        patches = _windows(images, self.sides)
        rows, down, across = patches.shape[:3]
        white = (_with_contrast(patches.reshape(rows * down * across, -1)) - self.centre) @ self.whitening
        responses = (white @ self.filters).reshape(rows, down, across, -1)
        signs = np.maximum(np.concatenate([responses, -responses], axis=3), 0.0)
        halves = (_halves(down), _halves(across))
        return np.concatenate([signs[:, i, j].mean(axis=(1, 2)) for i in halves[0] for j in halves[1]], axis=1)


def fit_patch_features(images: Floats, filters: int, rng: np.random.Generator) -> PatchFeatures:
    """Features of images like these (n, ...), with so many filters, fewer if there are not so many patches."""
    sides = min(_SIDE, images.shape[1]), min(_SIDE, images.shape[2])
    windows = _windows(images, sides)
    count = int(np.prod(windows.shape[:3]))
    places = np.unravel_index(
        rng.permutation(count)[:_SAMPLE] if count < 1 << 20 else rng.integers(count, size=_SAMPLE), windows.shape[:3]
    )
    patches = _with_contrast(windows[places].reshape(len(places[0]), -1))
    centre = patches.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(patches - centre, rowvar=False))
    whitening = (vectors / np.sqrt(np.maximum(values, 0.0) + _WHITENING)) @ vectors.T
    chosen = (patches[:filters] - centre) @ whitening
    lengths = np.sqrt(np.square(chosen).sum(axis=1, keepdims=True))
    return PatchFeatures(sides, centre, whitening, (chosen / np.maximum(lengths, 1e-9)).T)


def _windows(images: Floats, sides: tuple[int, int]) -> Floats:
    """All patches (n, down, across, ...) of images, a view."""
    return sliding_window_view(images, sides, axis=(1, 2))


def _with_contrast(patches: Floats) -> Floats:
    """Patches (n, d) less their mean, divided by their deviation."""
    centred = patches - patches.mean(axis=1, keepdims=True)
    scaled: Floats = centred / np.sqrt(np.square(centred).mean(axis=1, keepdims=True) + _BRIGHTNESS)
    return scaled


def _halves(length: int) -> tuple[slice, slice]:
    """Two halves of a side; both are the whole if it is one place long."""
    return (slice(0, max(1, length // 2)), slice(length // 2, None))
