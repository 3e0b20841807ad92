"""The user's own images: an archive of arrays, or a folder with one folder of pictures per class."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from modeltoll.bench.datasets.images import DataError, Images
from modeltoll.errors import ArrayFileError
from modeltoll.files import read_arrays

__all__ = ["archive", "image_folder"]

_PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm")


def archive(path: Path, dimensions: int | None = None) -> Images:
    """Images from an .npz file with ``x``, uint8 (n, height, width) or (n, height, width, 3), and labels ``y`` (n,).

    ``dimensions``: the only accepted number of dimensions of x, 3 or 4; None: both.

    Raises:
        DataError: there is no such file, or it does not hold these arrays.
    """
    shapes = {3: "(n, height, width)", 4: "(n, height, width, 3)"}
    shape = shapes[dimensions] if dimensions else " or ".join(shapes.values())
    if not path.is_file():
        raise DataError(f"there is no {path}; it holds x, uint8 {shape}, and y")
    try:
        arrays = read_arrays(path, ("x", "y"))
    except ArrayFileError as error:
        raise DataError(str(error), private=error.private) from None
    x, y = arrays["x"], arrays["y"]
    accepted = (dimensions,) if dimensions else tuple(shapes)
    wrong_channels = x.ndim == 4 and x.shape[3] != 3
    if x.ndim not in accepted or wrong_channels or x.dtype != np.uint8 or y.shape != (len(x),):
        raise DataError(f"{path} does not hold x, uint8 {shape}, and as many y")
    return Images(x / 255.0, y.astype(np.int64))


def image_folder(folder: Path, side: int) -> Images:
    """Colour images (n, side, side, 3) from a folder with one folder of pictures per class.

    Labels number the classes in the order of the folders' names.

    Raises:
        DataError: there are no such folders or pictures, or a picture cannot be read.
    """
    from PIL import Image  # noqa: PLC0415  comes with matplotlib, and is not needed elsewhere

    classes = sorted(entry for entry in folder.iterdir() if entry.is_dir()) if folder.is_dir() else []
    pictures = [
        (label, path)
        for label, kind in enumerate(classes)
        for path in sorted(kind.iterdir())
        if path.suffix.lower() in _PICTURE_SUFFIXES
    ]
    if not pictures:
        raise DataError(f"{folder} holds no folders of pictures, one per class")
    x = np.empty((len(pictures), side, side, 3))
    for index, (_, path) in enumerate(pictures):
        try:
            with Image.open(path) as picture:
                x[index] = np.asarray(picture.convert("RGB").resize((side, side), Image.Resampling.BILINEAR)) / 255.0
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error}") from None
    return Images(x, np.array([label for label, _ in pictures], np.int64))
