"""Votes of slow ensembles on disk, by what was voted on: an interrupted measurement goes on, and runs share them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from modeltoll import files

if TYPE_CHECKING:
    from modeltoll.leak.pate import Voters
    from modeltoll.records import Floats, Integers

__all__ = ["CachedVoters"]

_ROWS = 100  # of the smallest batch that is kept: rows that are timed one by one are always voted on


class CachedVoters:
    """The votes of other voters. Those on a batch of 100 rows or more are kept in a folder, one file each."""

    __slots__ = ("_folder", "_votes")

    def __init__(self, votes: Voters, folder: Path) -> None:
        self._votes, self._folder = votes, folder

    def __call__(self, inputs: Floats, /) -> Integers:
        """Counts of votes (rows, classes) on inputs (rows, d)."""
        if len(inputs) < _ROWS:
            return self._votes(inputs)
        sha = hashlib.sha256(repr(inputs.shape).encode())
        sha.update(np.ascontiguousarray(inputs, np.float64).view(np.uint8).data)
        path = self._folder / f"{sha.hexdigest()[:24]}.npy"
        if not path.is_file():
            votes = self._votes(inputs)
            self._folder.mkdir(parents=True, exist_ok=True)
            with files.replacing(path) as file:
                np.save(file, votes.astype(np.int16), allow_pickle=False)
        found: Integers = files.read_array(path).astype(np.int64)
        return found
