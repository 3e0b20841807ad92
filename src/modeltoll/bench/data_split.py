"""Who has which images: the victim, the tariff, honest callers, thieves. None of the parts overlap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.bench.datasets import Images

if TYPE_CHECKING:
    from modeltoll.records import Floats

__all__ = ["DataSplit", "SplitSizes", "mirrored", "shifted", "split_images"]


@dataclass(frozen=True, slots=True)
class SplitSizes:
    """How many images the victim never saw go to the tariff (``calibration``) and to thieves (``own``); the rest is honest.

    ``strange`` foreign images are kept from thieves, to see what a clone says of what nobody asked about.
    """

    calibration: int
    own: int
    strange: int


@dataclass(frozen=True, slots=True, eq=False)
class DataSplit:
    """Images of one size. ``private`` trained the victim; ``honest`` are also the examination of clones.

    ``own`` are a thief's of the victim's kind: unseen ones, each in some variants that keep its class. ``foreign`` are
    a thief's from elsewhere, ``strange`` of the same source, which he never has.
    """

    private: Images
    calibration: Images
    honest: Images
    own: Floats
    foreign: Images
    strange: Floats


def shifted(images: Floats) -> Floats:
    """Every image as it is, then one pixel up, down, left and right, what comes in being black; (5 n, ...)."""
    parts = [images]
    for axis, step in ((1, -1), (1, 1), (2, -1), (2, 1)):
        part = np.roll(images, step, axis)
        edge = [slice(None)] * images.ndim
        edge[axis] = slice(-1, None) if step < 0 else slice(1)
        part[tuple(edge)] = 0.0
        parts.append(part)
    return np.concatenate(parts)


def mirrored(images: Floats) -> Floats:
    """Every image as it is, mirrored, and both one pixel to the side, the edge being repeated; (4 n, ...)."""
    both = np.concatenate([images, images[:, :, ::-1]])
    aside = np.concatenate([both[:, :, 1:], both[:, :, -1:]], axis=2)
    return np.concatenate([both, aside])


def split_images(unseen: Images, shares: SplitSizes, rng: np.random.Generator) -> tuple[Images, Images, Images]:
    """Unseen images for the tariff, for thieves and for honest callers, in an order that chance decides."""
    order = np.split(rng.permutation(len(unseen.x)), [shares.calibration, shares.calibration + shares.own])
    calibration, own, honest = (Images(unseen.x[part], unseen.y[part]) for part in order)
    return calibration, own, honest
