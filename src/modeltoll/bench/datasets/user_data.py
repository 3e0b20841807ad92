"""One's own images: an archive of arrays, or a folder with a folder of pictures for each class."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from modeltoll.bench.datasets.images import DataError, Images
from modeltoll.errors import ArrayFileError
from modeltoll.files import read_arrays

__all__ = ["archive", "image_folder"]

_PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm")


def archive(path: Path, dimensions: int | None = None) -> Images:
    """Images from an .npz file that holds ``x``, uint8 (n, height, width) or (n, height, width, 3), and labels ``y``.

    ``dimensions`` of x, 3 or 4, where only one of them will do.

    Raises:
        DataError: there is no such file, or it does not hold that.
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
    wanted = (dimensions,) if dimensions else tuple(shapes)
    coloured = x.ndim == 4 and x.shape[3] != 3
    if x.ndim not in wanted or coloured or x.dtype != np.uint8 or y.shape != (len(x),):
        raise DataError(f"{path} does not hold x, uint8 {shape}, and as many y")
    return Images(x / 255.0, y.astype(np.int64))


def image_folder(folder: Path, side: int) -> Images:
    """Pictures of a folder, one folder a class, in colour and scaled to ``side`` x ``side``.

    Labels number the classes in the order of their names.

    Raises:
        DataError: there are no such folders or pictures, or one cannot be read.
    """
    from PIL import Image  # noqa: PLC0415  comes with matplotlib, and is not needed elsewhere

    classes = sorted(entry for entry in folder.iterdir() if entry.is_dir()) if folder.is_dir() else []
    pictures = [
        (label, path)
        for label, kind in enumerate(classes)
        for path in sorted(kind.iterdir())
        if path.suffix.lower() in _PICTURES
    ]
    if not pictures:
        raise DataError(f"{folder} holds no folders of pictures, one a class")
    x = np.empty((len(pictures), side, side, 3))
    for place, (_, path) in enumerate(pictures):
        try:
            with Image.open(path) as picture:
                x[place] = np.asarray(picture.convert("RGB").resize((side, side), Image.Resampling.BILINEAR)) / 255.0
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error}") from None
    return Images(x, np.array([label for label, _ in pictures], np.int64))
