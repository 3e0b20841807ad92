"""The split of images between victim, tariff, honest callers and attacker. The parts are disjoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.bench.datasets import Images

if TYPE_CHECKING:
    from modeltoll.records import Floats

__all__ = ["DataSplit", "SplitSizes", "mirrored", "shifted", "split_images", "with_brightness_labels"]

_TENTHS = 10


@dataclass(frozen=True, slots=True)
class SplitSizes:
    """How many of the victim's unseen images go to the tariff (``calibration``) and the attacker (``own``).

    The rest is honest. ``unseen_foreign``: the number of foreign images the attacker does not get; clones are compared
    with the victim on them.
    """

    calibration: int
    own: int
    unseen_foreign: int


@dataclass(frozen=True, slots=True, eq=False)
class DataSplit:
    """Images of one shape. The victim is trained on ``private``; clones are evaluated on ``honest``.

    ``own`` are the attacker's images of the victim's distribution, augmented; ``foreign`` the attacker's images of
    another source; ``unseen_foreign`` images of that source that the attacker does not have.
    """

    private: Images
    calibration: Images
    honest: Images
    own: Floats
    foreign: Images
    unseen_foreign: Floats


def shifted(images: Floats) -> Floats:
    """The images, then shifted by one pixel up, down, left and right, filled with black; (5 n, ...)."""
    parts = [images]
    for axis, step in ((1, -1), (1, 1), (2, -1), (2, 1)):
        part = np.roll(images, step, axis)
        edge = [slice(None)] * images.ndim
        edge[axis] = slice(-1, None) if step < 0 else slice(1)
        part[tuple(edge)] = 0.0
        parts.append(part)
    return np.concatenate(parts)


def mirrored(images: Floats) -> Floats:
    """The images, mirrored, and both shifted by one pixel to the side with the edge repeated; (4 n, ...)."""
    both = np.concatenate([images, images[:, :, ::-1]])
    shifted_ = np.concatenate([both[:, :, 1:], both[:, :, -1:]], axis=2)
    return np.concatenate([both, shifted_])


def split_images(unseen: Images, sizes: SplitSizes, rng: np.random.Generator) -> tuple[Images, Images, Images]:
    """Unseen images split at random for the tariff, the attacker and honest callers."""
    order = np.split(rng.permutation(len(unseen.x)), [sizes.calibration, sizes.calibration + sizes.own])
    calibration, own, honest = (Images(unseen.x[part], unseen.y[part]) for part in order)
    return calibration, own, honest


def with_brightness_labels(images: Floats) -> Images:
    """Images with labels made of their brightness: 0 for the darkest tenth, 9 for the brightest."""
    ranks = images.reshape(len(images), -1).mean(axis=1).argsort().argsort()
    return Images(images, ranks * _TENTHS // len(images))
