"""The sources of foreign images: any data set by name, noise, an archive, a folder of pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from modeltoll.bench.datasets.embedded import digits
from modeltoll.bench.datasets.images import DataError, Images
from modeltoll.bench.datasets.published import cifar10, emnist_letters, fashion, mnist, svhn, tiny_imagenet
from modeltoll.bench.datasets.user_data import archive, image_folder

__all__ = ["NOISE", "SOURCES", "foreign_images"]

NOISE = "noise"
_SIDE, _NOISY = 32, 20_000

SOURCES: Mapping[str, Callable[[Path], Images]] = {
    "tiny-imagenet": tiny_imagenet,
    "emnist": emnist_letters,
    "mnist": lambda folder: mnist(folder, train=True),
    "fashion": lambda folder: fashion(folder, train=True),
    "cifar10": lambda folder: cifar10(folder, train=True),
    "svhn": lambda folder: svhn(folder, train=True),
    "digits": lambda _: digits(),
}


def foreign_images(name: str, folder: Callable[[], Path]) -> Images:
    """The images of a source: a name of ``SOURCES``, ``noise``, an .npz file, or a folder of pictures.

    ``folder`` returns the data folder and is called only for data sets in it. Noise has ten arbitrary classes.

    Raises:
        DataError: there is no such source, or its files are missing.
    """
    if name == NOISE:
        rng = np.random.default_rng(0)
        return Images(rng.random((_NOISY, _SIDE, _SIDE)), np.arange(_NOISY) % 10)
    if name in SOURCES:
        return SOURCES[name](folder() if name != "digits" else Path())
    path = Path(name)
    if path.suffix == ".npz":
        return archive(path)
    if path.is_dir():
        return image_folder(path, _SIDE)
    raise DataError(
        f"there is no source {name!r}: give {', '.join((*SOURCES, NOISE))}, an .npz file, or a folder of pictures"
    )
