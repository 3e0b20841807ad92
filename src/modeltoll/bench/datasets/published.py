"""Readers of published data sets in their publishers' formats."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
from scipy import io
from scipy.io.matlab import MatReadError

from modeltoll.bench.datasets.images import DataError, Images
from modeltoll.bench.datasets.user_data import archive

__all__ = ["cifar10", "emnist_letters", "fashion", "mnist", "svhn", "tiny_imagenet"]

_IDX_UBYTE = 0x08
_CIFAR_ROW = 1 + 3 * 32 * 32  # the label, then the red, green and blue planes
_FETCHED = "put the published file there, or run 'modeltoll bench fetch'"


def _idx(path: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Read an IDX file of unsigned bytes, gzipped or not (the format is described on the MNIST page)."""
    for candidate in (path, path.with_suffix("")):
        if candidate.is_file():
            break
    else:
        raise DataError(f"there is no {path}; {_FETCHED}")
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
            raise DataError(f"there is no {path}; {_FETCHED}")
        raw = np.fromfile(path, np.uint8)
        if raw.size == 0 or raw.size % _CIFAR_ROW:
            raise DataError(f"{path} does not hold rows of {_CIFAR_ROW} bytes; it is cut short or something else")
        parts.append(raw.reshape(-1, _CIFAR_ROW))
    rows = np.concatenate(parts)
    x = rows[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return Images(np.ascontiguousarray(x) / 255.0, rows[:, 0].astype(np.int64))


def svhn(folder: Path, *, train: bool) -> Images:
    """Street View House Numbers, cropped to 32 x 32, from ``folder/svhn``: 73,257 images to train, 26,032 to test.

    MATLAB files that hold ``X`` (32, 32, 3, n) and ``y`` (n, 1), where 10 means the digit 0.
    """
    path = folder / "svhn" / ("train_32x32.mat" if train else "test_32x32.mat")
    if not path.is_file():
        raise DataError(f"there is no {path}; {_FETCHED}")
    try:
        arrays = io.loadmat(path)
        x, y = arrays["X"], arrays["y"].ravel()
    except (OSError, ValueError, KeyError, TypeError, NotImplementedError, MatReadError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    if x.ndim != 4 or x.shape[:3] != (32, 32, 3) or x.dtype != np.uint8 or x.shape[3] != len(y):
        raise DataError(f"{path} does not hold X, uint8 (32, 32, 3, n), and as many y")
    return Images(np.ascontiguousarray(x.transpose(3, 0, 1, 2)) / 255.0, y.astype(np.int64) % 10)


def emnist_letters(folder: Path) -> Images:
    """Handwritten letters of 28 x 28 from ``folder/emnist-letters.npz`` (``x`` uint8 (n, 28, 28), ``y``)."""
    return archive(folder / "emnist-letters.npz", 3)


def tiny_imagenet(folder: Path) -> Images:
    """Tiny-ImageNet at 32 x 32 from ``folder/tiny-imagenet-32.npz`` (``x`` uint8 (n, 32, 32, 3), ``y``)."""
    return archive(folder / "tiny-imagenet-32.npz", 4)
