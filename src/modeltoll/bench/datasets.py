"""Data sets: what scikit-learn carries, and published files that are at hand.

Images are arrays of shape (n, height, width) or (n, height, width, 3), float64 in 0..1; labels are int64.
"""

from __future__ import annotations

import gzip
import os
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from modeltoll.errors import ModeltollError

if TYPE_CHECKING:
    from modeltoll.records import Floats, Integers

__all__ = [
    "DATA_VARIABLE",
    "DataError",
    "Images",
    "cells",
    "cifar10",
    "data_folder",
    "digits",
    "emnist_letters",
    "fashion",
    "fit",
    "fit_to",
    "mnist",
    "photograph_patches",
    "tiny_imagenet",
]

DATA_VARIABLE = "MODELTOLL_DATA"
_IDX_UBYTE = 0x08
_CIFAR_ROW = 1 + 3 * 32 * 32  # the label, then the red, green and blue planes
_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


class DataError(ModeltollError):
    """A data set that is not at hand, or a file that is not what its name says."""


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """Images and their labels."""

    x: Floats
    y: Integers


def data_folder(given: Path | None) -> Path:
    """The folder that holds the data sets: the one given, else what the environment says.

    Raises:
        DataError: neither, or no such folder.
    """
    chosen = given or (Path(os.environ[DATA_VARIABLE]) if os.environ.get(DATA_VARIABLE) else None)
    if chosen is None:
        raise DataError(f"say where the data sets are: --data-dir DIR, or set {DATA_VARIABLE}")
    if not chosen.is_dir():
        raise DataError(f"there is no folder {chosen}; --data-dir names the folder that holds the data sets")
    return chosen


def digits() -> Images:
    """The 1797 handwritten digits of 8 x 8 pixels that scikit-learn carries (UCI Optical Recognition, test part)."""
    from sklearn.datasets import load_digits  # noqa: PLC0415  scikit-learn is slow to import and optional here

    bunch: Any = load_digits()
    return Images(np.asarray(bunch.images, np.float64) / 16.0, np.asarray(bunch.target, np.int64))


def cells() -> Images:
    """A table: the 569 breast cancer biopsies of 30 columns that scikit-learn carries (UCI WDBC), each column as 0..1.

    Rows are images one pixel high, (569, 1, 30).
    """
    from sklearn.datasets import load_breast_cancer  # noqa: PLC0415

    bunch: Any = load_breast_cancer()
    low, high = bunch.data.min(axis=0), bunch.data.max(axis=0)
    return Images(((bunch.data - low) / (high - low))[:, None], np.asarray(bunch.target, np.int64))


def photograph_patches(count: int, side: int, rng: np.random.Generator) -> Floats:
    """Natural grey patches, (count, side, side), cut at random scales and places from scikit-learn's two photographs.

    Each is stretched to the full range 0..1, so that brightness alone tells it from nothing.
    """
    from sklearn.datasets import load_sample_images  # noqa: PLC0415

    bunch: Any = load_sample_images()
    photographs = [np.asarray(image, np.float64) @ _LUMA / 255.0 for image in bunch.images]
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


def _idx(path: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Read an IDX file of unsigned bytes, gzipped or not (the format is described on the MNIST page)."""
    for candidate in (path, path.with_suffix("")):
        if candidate.is_file():
            break
    else:
        raise DataError(f"there is no {path}; put the published file there")
    try:
        raw = gzip.decompress(candidate.read_bytes()) if candidate.suffix == ".gz" else candidate.read_bytes()
        zeros, kind, dimensions = struct.unpack(">HBB", raw[:4])
        shape = struct.unpack(f">{dimensions}I", raw[4 : 4 + 4 * dimensions])
    except (OSError, EOFError, struct.error, gzip.BadGzipFile) as error:
        raise DataError(f"{candidate} cannot be read: {error}") from None
    data = np.frombuffer(raw, np.uint8, offset=4 + 4 * dimensions)
    if zeros or kind != _IDX_UBYTE or data.size != np.prod(shape):
        raise DataError(f"{candidate} is not an IDX file of bytes, or is cut short")
    return data.reshape(shape)


def mnist(folder: Path, *, train: bool) -> Images:
    """MNIST from its published IDX files in ``folder/mnist``: 60,000 images to train, 10,000 to test."""
    return _idx_pair(folder / "mnist", train=train)


def fashion(folder: Path, *, train: bool) -> Images:
    """Fashion-MNIST from its published IDX files in ``folder/fashion-mnist``; sizes as MNIST."""
    return _idx_pair(folder / "fashion-mnist", train=train)


def _idx_pair(folder: Path, *, train: bool) -> Images:
    part = "train" if train else "t10k"
    x = _idx(folder / f"{part}-images-idx3-ubyte.gz")
    y = _idx(folder / f"{part}-labels-idx1-ubyte.gz")
    if len(x) != len(y):
        raise DataError(f"{folder}: {len(x)} images but {len(y)} labels")
    return Images(x / 255.0, y.astype(np.int64))


def cifar10(folder: Path, *, train: bool) -> Images:
    """CIFAR-10 from its binary version in ``folder/cifar-10-batches-bin``: 50,000 images to train, 10,000 to test."""
    names = [f"data_batch_{number}.bin" for number in range(1, 6)] if train else ["test_batch.bin"]
    parts = []
    for name in names:
        path = folder / "cifar-10-batches-bin" / name
        if not path.is_file():
            raise DataError(f"there is no {path}; put the published binary version there")
        raw = np.fromfile(path, np.uint8)
        if raw.size == 0 or raw.size % _CIFAR_ROW:
            raise DataError(f"{path} does not hold rows of {_CIFAR_ROW} bytes; it is cut short or something else")
        parts.append(raw.reshape(-1, _CIFAR_ROW))
    rows = np.concatenate(parts)
    x = rows[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return Images(np.ascontiguousarray(x) / 255.0, rows[:, 0].astype(np.int64))


def emnist_letters(folder: Path) -> Images:
    """Handwritten letters of 28 x 28 from ``folder/emnist-letters.npz`` (``x`` uint8 (n, 28, 28), ``y``)."""
    return _archive(folder / "emnist-letters.npz", 3)


def tiny_imagenet(folder: Path) -> Images:
    """Tiny-ImageNet at 32 x 32 from ``folder/tiny-imagenet-32.npz`` (``x`` uint8 (n, 32, 32, 3), ``y``)."""
    return _archive(folder / "tiny-imagenet-32.npz", 4)


def _archive(path: Path, dimensions: int) -> Images:
    shape = "(n, height, width)" if dimensions == 3 else "(n, height, width, 3)"
    if not path.is_file():
        raise DataError(f"there is no {path}; it holds x, uint8 {shape}, and y")
    try:
        with np.load(path) as archive:
            x, y = archive["x"], archive["y"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    if x.ndim != dimensions or x.dtype != np.uint8 or len(x) != len(y):
        raise DataError(f"{path} does not hold x, uint8 {shape}, and as many y")
    return Images(x / 255.0, y.astype(np.int64))


def fit(images: Floats, side: int) -> Floats:
    """Images as grey ones of ``side`` x ``side``: colours by luma, size by linear interpolation."""
    grey = images @ _LUMA if images.ndim == 4 else images
    height, width = grey.shape[1:]
    if (height, width) == (side, side):
        return grey
    fitted: Floats = ndimage.zoom(grey, (1, side / height, side / width), order=1)
    return fitted


def fit_to(images: Floats, shape: tuple[int, ...]) -> Floats:
    """Images of a victim's shape, (side, side) or (side, side, 3): colours stay where both have them, grey is tripled."""
    if images.shape[1:] == shape:
        return images
    if len(shape) == 3 and images.ndim == 4:
        return np.stack([fit(plane, shape[0]) for plane in np.moveaxis(images, 3, 0)], axis=3)
    grey = fit(images, shape[0])
    return grey if len(shape) == 2 else np.repeat(grey[..., None], 3, axis=3)
