"""The data of the demo: the victim's training data, honest rows of three callers, and the pictures and noise of thieves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.bench import datasets
from modeltoll.leak.corruptions import Corruption, apply, parse_kinds

if TYPE_CHECKING:
    from modeltoll.records import Floats, Integers

__all__ = ["DATA_LOADERS", "KIND", "SHORT_SIZES", "DataSizes", "DemoData"]

KIND = "blur:0.033"  # of the rows of one honest caller; the operator declares it


@dataclass(frozen=True, slots=True)
class DataSizes:
    """The numbers of rows of the demo's parts.

    ``honest``, ``specialist``, ``shifted``: of the three honest callers. ``accounts`` share the ``pictures`` evenly, of which
    ``plain`` are sent by one account, too. Each of ``diluted`` stolen rows follows ``fillers`` easy digits, and each of
    ``covered`` ones ``fresh`` digits that were not sent before. ``banked`` are stolen after ``bank`` digits. ``strangers`` are
    pictures that the operator has, ``of_kind`` are calibration rows of the declared kind.
    """

    honest: int = 200
    specialist: int = 60
    shifted: int = 150
    pictures: int = 300
    plain: int = 140
    noise: int = 60
    diluted: int = 30
    fillers: int = 1
    covered: int = 60
    fresh: int = 2
    bank: int = 80
    banked: int = 60
    accounts: int = 50
    strangers: int = 80
    of_kind: int = 250


SHORT_SIZES = DataSizes(
    honest=160,
    specialist=50,
    shifted=150,
    pictures=150,
    plain=100,
    noise=40,
    covered=50,
    bank=60,
    accounts=15,
)


@dataclass(frozen=True, slots=True, eq=False)
class DemoData:
    """Flat rows of one width, float64 in 0..1. The parts are disjoint, except that ``honest`` are rows of ``test_x``.

    The victim is trained on ``private_*``; ``calibration`` and ``test_*`` are unseen digits; ``pictures`` are natural
    images, whose source ``kind`` names; ``known`` are other ones, which the operator has. ``side``: of an image in pixels;
    ``levels``: the number of grey levels of a digit.
    """

    private_x: Floats
    private_y: Integers
    calibration: Floats
    test_x: Floats
    test_y: Integers
    honest: Floats
    pictures: Floats
    noise: Floats
    known: Floats
    side: int
    levels: int
    kind: str

    def of_kind(self, rows: Floats) -> Floats:
        """Rows (n, dimensions) as the caller of the declared kind sends them."""
        (change,) = parse_kinds(KIND)
        return _changed(change, rows, self.side)


def _changed(change: Corruption, rows: Floats, side: int) -> Floats:
    return apply(change, rows, (side, side, 1), np.random.default_rng(0), (0.0, 1.0))


def _flat(images: Floats) -> Floats:
    return images.reshape(len(images), -1)


def _digits(sizes: DataSizes, folder: Path | None, rng: np.random.Generator) -> DemoData:
    """The 8 x 8 digits of scikit-learn and patches of its two photographs."""
    del folder
    images = datasets.digits()
    order = rng.permutation(len(images.x))
    private, calibration, test = np.split(order, [700, 1400])
    x, y, side = _flat(images.x), images.y, images.x.shape[1]
    natural = _flat(datasets.photograph_patches(sizes.pictures + sizes.strangers, side, rng))
    return DemoData(
        private_x=x[private],
        private_y=y[private],
        calibration=x[calibration],
        test_x=x[test],
        test_y=y[test],
        honest=x[test[: sizes.honest]],
        pictures=natural[: sizes.pictures],
        noise=rng.random((sizes.noise, side * side)),
        known=natural[sizes.pictures :],
        side=side,
        levels=16,
        kind="photograph patches",
    )


def _mnist(sizes: DataSizes, folder: Path | None, rng: np.random.Generator) -> DemoData:
    """MNIST, and Tiny-ImageNet resized to 28 x 28."""
    folder = datasets.data_folder(folder)
    train, unseen = datasets.mnist(folder, train=True), datasets.mnist(folder, train=False)
    natural = datasets.tiny_imagenet(folder)
    side = train.x.shape[1]
    chosen = rng.choice(len(natural.x), sizes.pictures + sizes.strangers, replace=False)
    pictures = _flat(datasets.resize(natural.x[chosen], side))
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
        pictures=pictures[: sizes.pictures],
        noise=rng.random((sizes.noise, side * side)),
        known=pictures[sizes.pictures :],
        side=side,
        levels=255,
        kind="Tiny-ImageNet",
    )


DATA_LOADERS: Mapping[str, Callable[[DataSizes, Path | None, np.random.Generator], DemoData]] = {
    "digits": _digits,
    "mnist": _mnist,
}
