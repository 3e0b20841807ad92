"""Leak measure ``multilabel``: PATE for models that assign several labels to a row."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from modeltoll.errors import CalibrationError
from modeltoll.leak.inputs import inputs_of
from modeltoll.leak.pate import vote_readout

if TYPE_CHECKING:
    from modeltoll.leak.pate import VoteReadout, Voters
    from modeltoll.records import Evidence, Floats

__all__ = ["MultilabelMeasure"]


class MultilabelMeasure:
    """PATE with one binary vote per label: the sum of the binary GNMax leaks over the labels.

    Source: Papernot et al. 2018, per label; Rényi divergences of independent answers add up.
    """

    inputs_alone: ClassVar[bool] = True

    __slots__ = ("_voters", "name", "readout", "teachers")

    def __init__(
        self, voters: Voters, teachers: int, readout: VoteReadout | None = None, name: str = "multilabel"
    ) -> None:
        """``voters`` counts how many of the ``teachers`` vote for each label, shape (rows, labels).

        ``readout`` defaults to ``rdp`` at sigma = teachers / 25.
        """
        self.name = name
        self.teachers = teachers
        self.readout = vote_readout(teachers, readout)
        self._voters = voters

    def measure(self, evidence: Evidence) -> Floats:
        """The leak of the teachers' votes on all labels of each row, shape (rows,).

        Raises:
            RequestError: the inputs are missing, of a wrong shape, or not finite.
            CalibrationError: the counts are not whole numbers from 0 to ``teachers`` of shape (rows, labels).
        """
        inputs = inputs_of(evidence)
        yes = np.asarray(self._voters(inputs))
        if yes.ndim != 2 or len(yes) != len(inputs) or yes.shape[1] < 1 or yes.dtype.kind not in "iu":
            raise CalibrationError("the teachers did not vote with whole counts of shape (rows, labels)")
        if ((yes < 0) | (yes > self.teachers)).any():
            raise CalibrationError(f"a label has other than 0 to {self.teachers} votes")
        counts = yes.astype(np.int64, copy=False)
        binary = np.stack([self.teachers - counts, counts], axis=2).reshape(-1, 2)
        return np.asarray(self.readout.leak(binary).reshape(yes.shape).sum(axis=1))
