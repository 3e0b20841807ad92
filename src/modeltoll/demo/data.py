"""The data of the demo: the victim's training data, honest rows, and the pictures and noise of the thieves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.bench import datasets

if TYPE_CHECKING:
    from modeltoll.records import Floats, Integers

__all__ = ["DATA_LOADERS", "SHORT_SIZES", "DataSizes", "DemoData"]


@dataclass(frozen=True, slots=True)
class DataSizes:
    """The numbers of rows of the demo's parts.

    Each of ``diluted`` stolen rows follows ``fillers`` easy digits. ``accounts`` share the ``pictures`` evenly.
    """

    honest: int = 397
    pictures: int = 500
    noise: int = 200
    diluted: int = 150
    fillers: int = 1
    accounts: int = 50


SHORT_SIZES = DataSizes(honest=300, pictures=150, noise=60, diluted=60, accounts=15)


@dataclass(frozen=True, slots=True, eq=False)
class DemoData:
    """Flat rows of one width, float64 in 0..1. The parts are disjoint, except that ``honest`` are rows of ``test_x``.

    The victim is trained on ``private_*``; ``calibration`` and ``test_*`` are unseen digits; ``pictures`` are natural
    images, whose source ``kind`` names; ``levels`` is the number of grey levels of a digit.
    """

    private_x: Floats
    private_y: Integers
    calibration: Floats
    test_x: Floats
    test_y: Integers
    honest: Floats
    pictures: Floats
    noise: Floats
    levels: int
    kind: str


def _flat(images: Floats) -> Floats:
    return images.reshape(len(images), -1)


def _digits(sizes: DataSizes, folder: Path | None, rng: np.random.Generator) -> DemoData:
    """The 8 x 8 digits of scikit-learn and patches of its two photographs."""
    del folder
    images = datasets.digits()
    order = rng.permutation(len(images.x))
    private, calibration, test = np.split(order, [700, 1400])
    x, y, side = _flat(images.x), images.y, images.x.shape[1]
    return DemoData(
        private_x=x[private],
        private_y=y[private],
        calibration=x[calibration],
        test_x=x[test],
        test_y=y[test],
        honest=x[test[: sizes.honest]],
        pictures=_flat(datasets.photograph_patches(sizes.pictures, side, rng)),
        noise=rng.random((sizes.noise, side * side)),
        levels=16,
        kind="photograph patches",
    )


def _mnist(sizes: DataSizes, folder: Path | None, rng: np.random.Generator) -> DemoData:
    """MNIST, and Tiny-ImageNet resized to 28 x 28."""
    folder = datasets.data_folder(folder)
    train, unseen = datasets.mnist(folder, train=True), datasets.mnist(folder, train=False)
    natural = datasets.tiny_imagenet(folder)
    side = train.x.shape[1]
    chosen = rng.choice(len(natural.x), sizes.pictures, replace=False)
    order = rng.permutation(len(unseen.x))
    calibration, test = order[:2500], order[2500:4500]
    x, y = _flat(unseen.x), unseen.y
    return DemoData(
        private_x=_flat(train.x),
        private_y=train.y,
        calibration=x[calibration],
        test_x=x[test],
        test_y=y[test],
        honest=x[test[: sizes.honest]],
        pictures=_flat(datasets.resize(natural.x[chosen], side)),
        noise=rng.random((sizes.noise, side * side)),
        levels=255,
        kind="Tiny-ImageNet",
    )


DATA_LOADERS: Mapping[str, Callable[[DataSizes, Path | None, np.random.Generator], DemoData]] = {
    "digits": _digits,
    "mnist": _mnist,
}
