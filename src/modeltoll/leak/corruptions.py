"""Kinds of honest rows by name: ``blur``, ``rotate:25``, ``missing``; applied to private rows or to a calibration's.

``parse_kinds("blur,rotate:25")`` gives the corruptions, ``apply`` makes the rows. All functions are pure: the same rows,
shape and generator give the same result, in the range of values that the rows have.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.errors import SettingsError
from modeltoll.leak import image_corruptions, table_corruptions

if TYPE_CHECKING:
    from modeltoll.records import Floats

__all__ = [
    "FAMILIES",
    "NO_KINDS",
    "PHOTO_KINDS",
    "TABLE_KINDS",
    "Corruption",
    "Family",
    "Shape",
    "apply",
    "channels_first",
    "is_image",
    "parse_kinds",
    "usual_kinds",
    "value_range",
]

Shape = tuple[int, int, int]  # (height, width, channels), or (channels, height, width); (1, 1, d) for a table's row
Change = Callable[["Floats", float, np.random.Generator], "Floats"]

NO_KINDS = "none"
_BATCH = 2000  # rows changed at a time, which bounds the memory
_CHANNELS = (1, 3, 4)


@dataclass(frozen=True, slots=True)
class Family:
    """Corruptions that differ in strength: ``change`` (images (n, h, w, c) in 0..1, or rows (n, d); strength; generator).

    ``strengths``: those that the name alone stands for. ``low``, ``high``: the range of possible strengths.
    """

    change: Change
    strengths: tuple[float, ...]
    low: float
    high: float
    images: bool = True


FAMILIES: Mapping[str, Family] = {
    "blur": Family(image_corruptions.blur, (0.018, 0.033, 0.05), 0.0, 1.0),
    "dark": Family(image_corruptions.dark, (0.7, 0.4, 0.25), 0.0, 1.0),
    "noise": Family(image_corruptions.noise, (0.04, 0.08, 0.14), 0.0, 1.0),
    "rotate": Family(image_corruptions.rotate, (12.0, 25.0), 0.0, 180.0),
    "bright": Family(image_corruptions.bright, (0.12, 0.25), 0.0, 1.0),
    "contrast": Family(image_corruptions.contrast, (0.75, 0.5), 0.0, 10.0),
    "fog": Family(image_corruptions.fog, (0.15, 0.3), 0.0, 1.0),
    "impulse": Family(image_corruptions.impulse, (0.01, 0.03), 0.0, 1.0),
    "jpeg": Family(image_corruptions.jpeg, (60.0, 20.0), 1.0, 95.0),
    "gamma": Family(image_corruptions.gamma, (0.6, 2.0), 0.01, 100.0),
    "motion": Family(image_corruptions.motion, (0.08, 0.12), 0.0, 1.0),
    "pixelate": Family(image_corruptions.pixelate, (0.8, 0.6), 0.01, 1.0),
    "shift": Family(image_corruptions.shift, (0.04, 0.107), 0.0, 1.0),
    "scale_image": Family(image_corruptions.scale_image, (0.9, 0.8), 0.01, 100.0),
    "jitter": Family(table_corruptions.jitter, (0.02, 0.05, 0.1), 0.0, 1.0, images=False),
    "missing": Family(table_corruptions.missing, (0.05, 0.15), 0.0, 1.0, images=False),
    "scale": Family(table_corruptions.scale, (0.05, 0.1), 0.0, 1.0, images=False),
}
PHOTO_KINDS = "blur,dark,noise,rotate,bright,contrast,fog,impulse"  # what DESIGN's promise was measured with
TABLE_KINDS = "jitter,missing,scale"
_SETS = {"photo": PHOTO_KINDS, "table": TABLE_KINDS}


@dataclass(frozen=True, slots=True)
class Corruption:
    """One kind of honest rows: a family, and the strength in the family's unit."""

    family: str
    strength: float

    @property
    def name(self) -> str:
        """As ``parse_kinds`` reads it, for example ``rotate:25``."""
        return f"{self.family}:{self.strength:g}"

    def suits(self, shape: Shape) -> bool:
        """Whether rows of this shape can be changed so: a corruption of images needs images."""
        return is_image(shape) or not FAMILIES[self.family].images


def parse_kinds(text: str) -> tuple[Corruption, ...]:
    """The corruptions of a list such as ``blur,dark,rotate:25``; a name without a strength stands for its usual ones.

    ``photo`` stands for all usual families of images, ``table`` for those of tables, ``none`` for no corruption.

    Raises:
        SettingsError: an unknown name, or a strength that is not in the family's range; every fault is named.
    """
    if text.strip() == NO_KINDS:
        return ()
    parts = [part.strip() for part in text.split(",")]
    named = [name for part in parts for name in _SETS.get(part, part).split(",")]
    faults = [fault for name in named if (fault := _fault(name))]
    if faults:
        raise SettingsError(faults)
    found: dict[Corruption, None] = {}
    for name in named:
        family, _, strength = name.partition(":")
        strengths = (float(strength),) if strength else FAMILIES[family].strengths
        found |= dict.fromkeys(Corruption(family, each) for each in strengths)
    return tuple(found)


def usual_kinds(shape: Shape) -> str:
    """The list of kinds that is usual for rows of this shape: those of images, or those of tables."""
    return PHOTO_KINDS if is_image(shape) else TABLE_KINDS


def _fault(name: str) -> str | None:
    """What is wrong with one entry of a list of kinds; None: nothing."""
    label, colon, stated = name.partition(":")
    family = FAMILIES.get(label)
    if family is None:
        return f"there is no kind {label!r}; there are {', '.join(FAMILIES)}, and photo, table, none"
    try:
        strength = float(stated) if colon else family.low
    except ValueError:
        strength = math.nan
    if not family.low <= strength <= family.high:
        return f"the strength of {label!r} is a number in {family.low:g}..{family.high:g}, not {stated!r}"
    return None


def apply(
    corruption: Corruption,
    inputs: Floats,
    shape: Shape,
    rng: np.random.Generator,
    limits: tuple[float, float] | None = None,
) -> Floats:
    """Rows (n, d) of this kind, made from honest rows (n, d).

    Images are clipped to their range of values. Where all values of the images, or of a table's column, are whole
    numbers, the result is rounded, because such a model takes whole numbers. Images of 0 and 1 alone may become grey.

    Args:
        corruption: what to do.
        inputs: honest rows; images flattened.
        shape: (height, width, channels) or (channels, height, width) of a row, or (1, 1, d).
        rng: source of randomness.
        limits: the least and the largest value of an image; by default ``value_range(inputs)``.

    Raises:
        SettingsError: a corruption of images for rows that are no images.
    """
    if not corruption.suits(shape):
        raise SettingsError([f"{corruption.family!r} is a kind of images, and rows of shape {shape} are none"])
    change = FAMILIES[corruption.family].change
    values = np.asarray(inputs, dtype=np.float64)
    whole = (np.isnan(values) | (values == np.round(values))).all(axis=0)
    if FAMILIES[corruption.family].images:
        changed = _changed_images(change, corruption.strength, values, shape, rng, limits or value_range(values))
        whole[:] = whole.all() and (np.abs(values) > 1.0).any()
    else:
        changed = change(values, corruption.strength, rng)
    return np.where(whole, np.round(changed), changed)


def _changed_images(
    change: Change, strength: float, rows: Floats, shape: Shape, rng: np.random.Generator, limits: tuple[float, float]
) -> Floats:
    low, high = limits
    span = high - low or 1.0
    first = channels_first(shape)
    changed = np.empty_like(rows)
    for start in range(0, len(rows), _BATCH):
        images = (rows[start : start + _BATCH].reshape(-1, *shape) - low) / span
        images = np.ascontiguousarray(np.moveaxis(images, 1, 3)) if first else images
        images = np.clip(change(images, strength, rng), 0.0, 1.0)
        images = np.moveaxis(images, 3, 1) if first else images
        changed[start : start + _BATCH] = images.reshape(len(images), -1) * span + low
    return changed


def is_image(shape: Shape) -> bool:
    """Whether a row of this shape is an image: more than one row and column of pixels."""
    height, width = shape[1:] if channels_first(shape) else shape[:2]
    return height > 1 and width > 1


def value_range(inputs: Floats) -> tuple[float, float]:
    """The range of the values of images: (0, 1), (0, 255), or the least and the largest value found."""
    low, high = float(np.nanmin(inputs)), float(np.nanmax(inputs))
    for most in (1.0, 255.0):
        if low >= 0.0 and high <= most:
            return 0.0, most
    return low, high


def channels_first(shape: Shape) -> bool:
    """Whether a shape is (channels, height, width): 1, 3 or 4 at its beginning and not at its end."""
    return shape[0] in _CHANNELS and shape[2] not in _CHANNELS and shape[1] > 1
