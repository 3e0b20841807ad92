"""The record of images with labels that every data set returns, and the folder of the data sets."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from modeltoll.errors import ModeltollError

if TYPE_CHECKING:
    from modeltoll.records import Floats, Integers

__all__ = ["DATA_VARIABLE", "UNKNOWN", "DataError", "Images", "accuracy", "data_folder", "image_shape"]

DATA_VARIABLE = "MODELTOLL_DATA"
UNKNOWN = -1  # the label of a row whose true class is not known


class DataError(ModeltollError):
    """A data set is missing, or a file does not have the expected content."""


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """Images (n, ...), float64 in 0..1, and their labels (n,), ``UNKNOWN`` where none is known."""

    x: Floats
    y: Integers


def accuracy(predicted: Integers, labels: Integers) -> float:
    """The share of rows, in 0..1, whose predicted class is their label, of those with a label; 0 where none has one."""
    known = labels != UNKNOWN
    return float((predicted[known] == labels[known]).mean()) if known.any() else 0.0


def image_shape(images: Images) -> tuple[int, int, int]:
    """(height, width, channels) of one image, or of one row of a table, which has the height 1."""
    sides = images.x.shape[1:]
    return sides[0], sides[1], sides[2] if len(sides) == 3 else 1


def data_folder(given: Path | None) -> Path:
    """The folder of the data sets: the one given, else the one in the environment variable ``DATA_VARIABLE``.

    Raises:
        DataError: neither is given, or there is no such folder.
    """
    chosen = given or (Path(os.environ[DATA_VARIABLE]) if os.environ.get(DATA_VARIABLE) else None)
    if chosen is None:
        raise DataError(f"give the folder of the data sets: --data-dir DIR, or set {DATA_VARIABLE}")
    if not chosen.is_dir():
        raise DataError(f"there is no folder {chosen}; --data-dir names the folder that holds the data sets")
    return chosen
