"""One small network in the place of an ensemble."""

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
    """A network that tells how an ensemble of ``teachers`` would vote, in one forward pass."""

    stack: NetworkStack
    teachers: int

    def votes(self, inputs: Floats) -> Integers:
        """The expected votes (rows, classes) as whole counts, each row summing to ``teachers``.

        What rounding down leaves over goes to the classes with the largest remainders.

        Raises:
            RequestError: the inputs are not finite numbers of the shape that the network takes.
        """
        values = check_inputs(inputs, self.stack.dimensions)
        # One row at a time: a product of several may round each otherwise, and votes must not depend on the batch.
        parts = [self.stack.outputs(values[row : row + 1])[0] for row in range(len(values))]
        scores = np.concatenate([np.empty((0, self.stack.classes)), *parts])
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        shares = powers / powers.sum(axis=1, keepdims=True) * self.teachers
        counts = np.floor(shares).astype(np.int64)
        left = self.teachers - counts.sum(axis=1)
        places = np.argsort(np.argsort(counts - shares, axis=1, kind="stable"), axis=1)
        return np.asarray(counts + (places < left[:, None]))

    def save(self, path: Path) -> None:
        """Write the network as plain arrays."""
        save_arrays(path, _HEAD, self.stack.arrays() | {"teachers": np.array(self.teachers)})

    @classmethod
    def load(cls, path: Path) -> VoteHead:
        """Read what ``save`` wrote.

        Raises:
            CalibrationError: the file is missing, damaged, or of another kind or version.
        """
        arrays = load_arrays(path, _HEAD)
        stack, teachers = NetworkStack.of_arrays(arrays), arrays.get("teachers", np.array(0))
        if stack.count != 1 or teachers.ndim or not int(teachers) >= 1:
            raise CalibrationError("a vote head is one network in the place of one or more teachers", private=str(path))
        return cls(stack, int(teachers))


def load_voters(path: Path) -> tuple[Voters, int]:
    """Whoever votes by a file, teachers or the head distilled from them, and how many votes there are per row.

    Raises:
        CalibrationError: the file is missing, damaged, or of another kind or version.
    """
    if is_kind(path, _HEAD):
        head = VoteHead.load(path)
        return head.votes, head.teachers
    teachers = TeacherEnsemble.load(path)
    return teachers.votes, len(teachers)
