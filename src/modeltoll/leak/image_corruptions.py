"""Corruptions of images, as honest callers send them: functions of images (n, h, w, c) in 0..1, a strength and a generator.

Results may leave 0..1; the caller clips them. After the corruptions of Hendrycks and Dietterich 2019 (ImageNet-C).
"""

from __future__ import annotations

import importlib
import io
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from modeltoll.errors import SettingsError

if TYPE_CHECKING:
    from modeltoll.records import Floats

__all__ = [
    "blur",
    "bright",
    "contrast",
    "dark",
    "fog",
    "gamma",
    "impulse",
    "jpeg",
    "motion",
    "noise",
    "pixelate",
    "rotate",
    "scale_image",
    "shift",
]

_FOG = 4  # knots of the random field on each side
_GREY = 255.0


def blur(images: Floats, strength: float, rng: np.random.Generator) -> Floats:
    """Gaussian blur; ``strength`` is its standard deviation, as a fraction of the image's height."""
    del rng
    width = strength * images.shape[1]
    return np.asarray(ndimage.gaussian_filter(images, (0.0, width, width, 0.0)))


def dark(images: Floats, strength: float, rng: np.random.Generator) -> Floats:
    """Every value times ``strength``."""
    del rng
    return strength * images


def noise(images: Floats, strength: float, rng: np.random.Generator) -> Floats:
    """Gaussian noise of standard deviation ``strength``, independent for each number."""
    return images + rng.normal(0.0, strength, images.shape)


def rotate(images: Floats, strength: float, rng: np.random.Generator) -> Floats:
    """Each image turned by an angle of its own, uniform in ``-strength`` to ``strength`` degrees."""
    angles = rng.uniform(-strength, strength, len(images))
    turned = np.empty_like(images)
    for place, (image, angle) in enumerate(zip(images, angles, strict=True)):
        turned[place] = ndimage.rotate(image, angle, (1, 0), reshape=False, order=1, mode="nearest")
    return turned


def bright(images: Floats, strength: float, rng: np.random.Generator) -> Floats:
    """``strength`` added to every value."""
    del rng
    return images + strength


def contrast(images: Floats, strength: float, rng: np.random.Generator) -> Floats:
    """The difference from the image's mean times ``strength``."""
    del rng
    mean = images.mean(axis=(1, 2, 3), keepdims=True)
    return np.asarray(mean + strength * (images - mean))


def fog(images: Floats, strength: float, rng: np.random.Generator) -> Floats:
    """Blended with a smooth random field of weight ``strength``, one field for each image."""
    count, height, width, _ = images.shape
    knots = rng.random((count, _FOG, _FOG))
    rows, columns = (_interpolation(_FOG, np.linspace(0.0, _FOG - 1.0, side)) for side in (height, width))
    field = np.einsum("ik,nkl,jl->nij", rows, knots, columns, optimize=True)[..., None]
    return np.asarray((1.0 - strength) * images + strength * field)


def impulse(images: Floats, strength: float, rng: np.random.Generator) -> Floats:
    """A share ``strength`` of the pixels becomes black or white."""
    drawn = rng.random(images.shape[:3])[..., None]
    return np.where(drawn < strength / 2.0, 0.0, np.where(drawn > 1.0 - strength / 2.0, 1.0, images))


def jpeg(images: Floats, strength: float, rng: np.random.Generator) -> Floats:
    """Stored and read as JPEG of quality ``strength``; for one or three channels.

    Raises:
        SettingsError: Pillow is not installed, or the images have another number of channels.
    """
    del rng
    if images.shape[3] not in (1, 3):
        raise SettingsError([f"JPEG has one or three channels, not {images.shape[3]}"])
    try:
        codec: Any = importlib.import_module("PIL.Image")
    except ImportError:
        raise SettingsError(["the kind 'jpeg' needs Pillow: pip install pillow"]) from None
    stored = np.empty_like(images)
    for place, image in enumerate(np.clip(images * _GREY + 0.5, 0.0, _GREY).astype(np.uint8)):
        buffer = io.BytesIO()
        codec.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(buffer, "JPEG", quality=int(strength))
        stored[place] = np.asarray(codec.open(buffer)).reshape(image.shape) / _GREY
    return stored


def gamma(images: Floats, strength: float, rng: np.random.Generator) -> Floats:
    """Every value to the power of ``strength``."""
    del rng
    return np.asarray(np.clip(images, 0.0, 1.0) ** strength)


def motion(images: Floats, strength: float, rng: np.random.Generator) -> Floats:
    """The mean over a horizontal stretch of ``strength`` times the height, two pixels at least."""
    del rng
    return np.asarray(ndimage.uniform_filter1d(images, max(2, round(strength * images.shape[1])), axis=2))


def pixelate(images: Floats, strength: float, rng: np.random.Generator) -> Floats:
    """Blocks of equal colour; ``strength`` is the number of blocks over the number of pixels, along a side."""
    del rng
    rows, columns = (_blocks(side, max(1, round(strength * side))) for side in images.shape[1:3])
    return np.asarray(np.einsum("ik,nklc,jl->nijc", rows, images, columns, optimize=True))


def shift(images: Floats, strength: float, rng: np.random.Generator) -> Floats:
    """Each image moved by up to ``strength`` times the height in each direction; its edge fills the gap."""
    count, height, width, _ = images.shape
    most = round(strength * height)
    down, right = rng.integers(-most, most + 1, (2, count, 1))
    rows = np.clip(np.arange(height) - down, 0, height - 1)
    columns = np.clip(np.arange(width) - right, 0, width - 1)
    return np.asarray(images[np.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]])


def scale_image(images: Floats, strength: float, rng: np.random.Generator) -> Floats:
    """Enlarged ``strength`` times about the middle; its edge fills the gap where it shrinks."""
    del rng
    middles = [(side - 1) / 2.0 for side in images.shape[1:3]]
    rows, columns = (
        _interpolation(side, middle + (np.arange(side) - middle) / strength)
        for side, middle in zip(images.shape[1:3], middles, strict=True)
    )
    return np.asarray(np.einsum("ik,nklc,jl->nijc", rows, images, columns, optimize=True))


def _interpolation(knots: int, places: Floats) -> Floats:
    """Weights (places, knots) of linear interpolation at ``places``, in units of knots; beyond the ends, the last knot."""
    inside = np.clip(places, 0.0, knots - 1.0)
    return np.maximum(0.0, 1.0 - np.abs(inside[:, None] - np.arange(knots)))


def _blocks(side: int, blocks: int) -> Floats:
    """Weights (side, side) that give each pixel the mean of its block."""
    block = np.arange(side) * blocks // side
    same = (block[:, None] == block).astype(np.float64)
    return np.asarray(same / same.sum(axis=1, keepdims=True))
