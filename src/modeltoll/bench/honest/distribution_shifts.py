"""Honest images that differ from the calibration's distribution; one function per kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.bench import datasets
from modeltoll.bench.datasets import Images
from modeltoll.leak.corruptions import FAMILIES, Corruption, apply, is_image
from modeltoll.leak.image_corruptions import noise

if TYPE_CHECKING:
    from modeltoll.records import Floats

__all__ = ["DECLARED", "KINDS", "ORDINARY", "UNDECLARED", "Kind", "jittered"]

ORDINARY = "in-distribution"

Kind = Callable[[Images, np.random.Generator], Images | None]  # honest images of the kind; None: not for these images

_LIMITS = (0.0, 1.0)  # of the bench's images, and of its tables
_STEPS = 255


def _unchanged(honest: Images, rng: np.random.Generator) -> Images:
    del rng
    return honest


def _rare(honest: Images, rng: np.random.Generator) -> Images:
    """The rarest class only."""
    del rng
    chosen = honest.y == np.bincount(honest.y).argmin()
    return Images(honest.x[chosen], honest.y[chosen])


def _corrupted(family: str, strength: float) -> Kind:
    """Honest rows under a corruption; None for rows that it cannot change."""
    corruption = Corruption(family, strength)

    def kind(honest: Images, rng: np.random.Generator) -> Images | None:
        shape = datasets.image_shape(honest)
        if is_image(shape) != FAMILIES[family].images:
            return None
        changed = apply(corruption, honest.x.reshape(len(honest.x), -1), shape, rng, _LIMITS)
        return Images(np.clip(changed, *_LIMITS).reshape(honest.x.shape), honest.y)

    return kind


def _noisy(honest: Images, rng: np.random.Generator) -> Images:
    """Gaussian noise with a standard deviation of 0.08, on images and on the columns of tables."""
    return Images(np.clip(noise(honest.x, 0.08, rng), *_LIMITS), honest.y)


def _other_digits(honest: Images, rng: np.random.Generator) -> Images | None:
    """For digits of 28 x 28: scikit-learn's digits, of another origin, resized to 28 x 28."""
    if honest.x.shape[1:] != (28, 28) or honest.y.max() != 9:
        return None
    other = datasets.digits()
    order = rng.permutation(len(other.x))
    margin = ((0, 0), (1, 1), (1, 1))  # MNIST's digits have a margin, scikit-learn's have none
    return Images(np.clip(datasets.resize(np.pad(other.x[order], margin), 28), 0.0, 1.0), other.y[order])


# Those that an operator would declare, at strengths among those that the families' names stand for.
DECLARED: Mapping[str, Kind] = {
    "blurred": _corrupted("blur", 1 / 30),
    "rotated": _corrupted("rotate", 25.0),
    "noisy": _noisy,
    "dark": _corrupted("dark", 0.4),
    "bright": _corrupted("bright", 0.25),
    "low contrast": _corrupted("contrast", 0.5),
    "foggy": _corrupted("fog", 0.3),
    "impulse noise": _corrupted("impulse", 0.03),
    "jittered columns": _corrupted("jitter", 0.05),
    "missing values": _corrupted("missing", 0.15),
    "rescaled": _corrupted("scale", 0.1),
}
# Those that no operator declared.
UNDECLARED: Mapping[str, Kind] = {
    "jpeg": _corrupted("jpeg", 20.0),
    "gamma": _corrupted("gamma", 2.0),
    "motion": _corrupted("motion", 0.12),
    "pixelated": _corrupted("pixelate", 0.6),
    "shifted": _corrupted("shift", 0.107),
    "shrunk": _corrupted("scale_image", 0.8),
    "other digits": _other_digits,
}
KINDS: Mapping[str, Kind] = {ORDINARY: _unchanged, "rare class": _rare, **DECLARED, **UNDECLARED}


def jittered(image: Floats, count: int, levels: int, rng: np.random.Generator) -> Floats:
    """``count`` copies (count, ...) of one image (...), each pixel changed by -1, 0 or 1 of ``levels`` grey steps."""
    steps = rng.integers(-1, 2, (count, *image.shape)) / min(levels, _STEPS)
    return np.clip(image + steps, 0.0, 1.0)
