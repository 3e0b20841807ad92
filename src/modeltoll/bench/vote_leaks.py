"""Leaks by the votes of a target's teachers: measured of the rows for which a toll asks, and kept in the cache."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.bench.artifact_files import read_arrays, write_arrays
from modeltoll.bench.leak_measures import VOTE_MEASURES, measure_all

if TYPE_CHECKING:
    from modeltoll.bench.leak_measures import Measures
    from modeltoll.records import Floats, Integers

__all__ = ["VoteLeaks"]

_LEAKS = "leaks"


@dataclass(frozen=True, slots=True, eq=False)
class VoteLeaks:
    """The leaks of one target's rows by ``VOTE_MEASURES``, in a folder with a file for each sample of rows.

    A file is named by a digest of the sample's other leaks and classes, so that it belongs to no other rows. The folder is that
    of one recipe of teachers. ``measures``: makes the measures, called only to measure; it may train the teachers.
    """

    folder: Path
    measures: Callable[[], Measures]

    def of(self, leaks: Floats, classes: Integers | None, images: Callable[[], Floats]) -> Floats:
        """The leaks (rows, measures) of a sample that has these other ``leaks`` (rows, measures) and ``classes`` (rows,).

        ``images`` makes its images (rows, ...), called only to measure.

        Raises:
            DamagedFile: the file in the folder cannot be read.
        """
        path = self.folder / f"{_digest(leaks, classes)}.npz"
        if not path.is_file():
            measures, asked = self.measures(), images()
            found = measure_all({name: measures[name] for name in VOTE_MEASURES}, np.empty((len(asked), 0)), asked)
            write_arrays(path, {_LEAKS: found}, {"measures": VOTE_MEASURES})
        return np.asarray(read_arrays(path)[0][_LEAKS])


def _digest(leaks: Floats, classes: Integers | None) -> str:
    sha = hashlib.sha256(repr(leaks.shape).encode())
    sha.update(np.ascontiguousarray(leaks, np.float64).tobytes())
    if classes is not None:
        sha.update(np.ascontiguousarray(classes, np.int64).tobytes())
    return sha.hexdigest()[:24]
