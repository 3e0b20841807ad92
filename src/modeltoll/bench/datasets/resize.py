"""Convert images to another size and number of channels, so that any set can be foreign to any victim."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from modeltoll.records import Floats

__all__ = ["LUMA", "resize", "resize_to"]

LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


def resize(images: Floats, side: int) -> Floats:
    """Grey images (n, side, side): colours are converted by luma, the size by linear interpolation."""
    grey = images @ LUMA if images.ndim == 4 else images
    height, width = grey.shape[1:]
    if (height, width) == (side, side):
        return grey
    fitted: Floats = ndimage.zoom(grey, (1, side / height, side / width), order=1, mode="nearest")
    return fitted


def resize_to(images: Floats, shape: tuple[int, ...]) -> Floats:
    """Images of a victim's shape, (side, side) or (side, side, 3); grey images for a colour victim repeat the channel."""
    if images.shape[1:] == shape:
        return images
    if len(shape) == 3 and images.ndim == 4:
        return np.stack([resize(plane, shape[0]) for plane in np.moveaxis(images, 3, 0)], axis=3)
    grey = resize(images, shape[0])
    return grey if len(shape) == 2 else np.repeat(grey[..., None], 3, axis=3)
