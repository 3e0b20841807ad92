"""Honest images that differ from the calibration's distribution; one function per kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from modeltoll.bench import datasets
from modeltoll.bench.datasets import Images

if TYPE_CHECKING:
    from modeltoll.records import Floats

__all__ = ["KINDS", "ORDINARY", "Kind", "jittered"]

ORDINARY = "in-distribution"

Kind = Callable[[Images, np.random.Generator], Images | None]  # honest images of the kind; None: not for these images

_DEGREES, _DARK, _NOISE = 25.0, 0.4, 0.08
_STEPS = 255


def _images(images: Floats) -> bool:
    """Whether they are images, not rows of a table."""
    return bool(images.shape[1] > 1)


def _unchanged(honest: Images, rng: np.random.Generator) -> Images:
    del rng
    return honest


def _rare(honest: Images, rng: np.random.Generator) -> Images:
    """The rarest class only."""
    del rng
    chosen = honest.y == np.bincount(honest.y).argmin()
    return Images(honest.x[chosen], honest.y[chosen])


def _apply(honest: Images, change: Callable[[Floats], Floats]) -> Images | None:
    return Images(np.clip(change(honest.x), 0.0, 1.0), honest.y) if _images(honest.x) else None


def _blurred(honest: Images, rng: np.random.Generator) -> Images | None:
    """Gaussian blur with a standard deviation of a thirtieth of the side."""
    del rng
    width = honest.x.shape[1] / 30.0
    sigma = (0.0, width, width, *(0.0,) * (honest.x.ndim - 3))
    return _apply(honest, lambda x: ndimage.gaussian_filter(x, sigma))


def _rotated(honest: Images, rng: np.random.Generator) -> Images | None:
    """Rotated by up to 25 degrees in either direction."""
    angles = rng.uniform(-_DEGREES, _DEGREES, len(honest.x))

    def turn(images: Floats) -> Floats:
        turned = [
            ndimage.rotate(image, angle, (1, 0), reshape=False, order=1, mode="nearest")
            for image, angle in zip(images, angles, strict=True)
        ]
        return np.stack(turned)

    return _apply(honest, turn)


def _noisy(honest: Images, rng: np.random.Generator) -> Images | None:
    """Gaussian noise with a standard deviation of 0.08."""
    return Images(np.clip(honest.x + rng.normal(0.0, _NOISE, honest.x.shape), 0.0, 1.0), honest.y)


def _dark(honest: Images, rng: np.random.Generator) -> Images | None:
    """Darkened to 0.4 of the brightness."""
    del rng
    return _apply(honest, lambda x: _DARK * x)


def _other_digits(honest: Images, rng: np.random.Generator) -> Images | None:
    """For digits of 28 x 28: scikit-learn's digits, of another origin, resized to 28 x 28."""
    if honest.x.shape[1:] != (28, 28) or honest.y.max() != 9:
        return None
    other = datasets.digits()
    order = rng.permutation(len(other.x))
    margin = ((0, 0), (1, 1), (1, 1))  # MNIST's digits have a margin, scikit-learn's have none
    return Images(np.clip(datasets.resize(np.pad(other.x[order], margin), 28), 0.0, 1.0), other.y[order])


KINDS: Mapping[str, Kind] = {
    ORDINARY: _unchanged,
    "rare class": _rare,
    "blurred": _blurred,
    "rotated": _rotated,
    "noisy": _noisy,
    "dark": _dark,
    "other digits": _other_digits,
}


def jittered(image: Floats, count: int, levels: int, rng: np.random.Generator) -> Floats:
    """``count`` copies (count, ...) of one image (...), each pixel changed by -1, 0 or 1 of ``levels`` grey steps."""
    steps = rng.integers(-1, 2, (count, *image.shape)) / min(levels, _STEPS)
    return np.clip(image + steps, 0.0, 1.0)
