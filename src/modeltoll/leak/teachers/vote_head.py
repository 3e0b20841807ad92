"""The vote head: one small network that predicts the votes of an ensemble."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.errors import CalibrationError
from modeltoll.leak.array_file import is_kind, load_arrays, save_arrays
from modeltoll.leak.inputs import check_inputs
from modeltoll.leak.teachers.ensemble import TeacherEnsemble
from modeltoll.leak.teachers.network_stack import NetworkStack

if TYPE_CHECKING:
    from modeltoll.leak.pate import Voters
    from modeltoll.records import Floats, Integers

__all__ = ["VoteHead", "load_voters"]

_HEAD = "vote head"


@dataclass(frozen=True, slots=True, eq=False)
class VoteHead:
    """A network that predicts the votes of an ensemble of ``teachers`` in one forward pass."""

    stack: NetworkStack
    teachers: int

    def votes(self, inputs: Floats) -> Integers:
        """The predicted votes (rows, classes) as whole counts, each row summing to ``teachers``.

        Counts are rounded down; the remaining votes go to the classes with the largest remainders.

        Raises:
            RequestError: the inputs are not finite numbers of the shape that the network accepts.
        """
        values = check_inputs(inputs, self.stack.dimensions)
        # One row at a time: the rounding of a product depends on its size, and votes must not depend on the batch.
        parts = [self.stack.outputs(values[row : row + 1])[0] for row in range(len(values))]
        scores = np.concatenate([np.empty((0, self.stack.classes)), *parts])
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        shares = powers / powers.sum(axis=1, keepdims=True) * self.teachers
        counts = np.floor(shares).astype(np.int64)
        left = self.teachers - counts.sum(axis=1)
        places = np.argsort(np.argsort(counts - shares, axis=1, kind="stable"), axis=1)
        return np.asarray(counts + (places < left[:, None]))

    def save(self, path: Path) -> None:
        """Write the network and the number of teachers."""
        save_arrays(path, _HEAD, self.stack.arrays() | {"teachers": np.array(self.teachers)})

    @classmethod
    def load(cls, path: Path) -> VoteHead:
        """Read a file that ``save`` wrote.

        Raises:
            CalibrationError: the file is missing, damaged, or of another kind or version.
        """
        arrays = load_arrays(path, _HEAD)
        stack, teachers = NetworkStack.of_arrays(arrays), arrays.get("teachers", np.array(0))
        if stack.count != 1 or teachers.ndim or not int(teachers) >= 1:
            raise CalibrationError("a vote head needs one network and the number of its teachers", private=str(path))
        return cls(stack, int(teachers))


def load_voters(path: Path) -> tuple[Voters, int, int]:
    """Load a file of teachers or of a vote head; returns its vote, the number of votes per row, and the length of an input.

    Raises:
        CalibrationError: the file is missing, damaged, or of another kind or version.
    """
    if is_kind(path, _HEAD):
        head = VoteHead.load(path)
        return head.votes, head.teachers, head.stack.dimensions
    teachers = TeacherEnsemble.load(path)
    return teachers.votes, len(teachers), teachers.dimensions
