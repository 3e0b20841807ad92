"""What every data set gives, and where data sets are."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from modeltoll.errors import ModeltollError

if TYPE_CHECKING:
    from modeltoll.records import Floats, Integers

__all__ = ["DATA_VARIABLE", "DataError", "Images", "data_folder"]

DATA_VARIABLE = "MODELTOLL_DATA"


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
