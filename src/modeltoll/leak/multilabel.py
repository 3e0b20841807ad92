"""Answers with several labels at once."""

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
    """PATE where each label is a question of its own: the sum, over the labels, of binary GNMax.

    Source: Papernot et al. 2018, for each label; Renyi divergences of independent answers add.
    """

    inputs_alone: ClassVar[bool] = True

    __slots__ = ("_voters", "name", "reading", "teachers")

    def __init__(
        self, voters: Voters, teachers: int, reading: VoteReadout | None = None, name: str = "multilabel"
    ) -> None:
        """``voters`` tells how many of the ``teachers`` say yes to each label, (rows, labels).

        ``reading`` defaults to ``rdp`` at sigma = teachers / 25.
        """
        self.name = name
        self.teachers = teachers
        self.reading = vote_readout(teachers, reading)
        self._voters = voters

    def measure(self, evidence: Evidence) -> Floats:
        """What the teachers' votes on all labels of each row reveal, shape (rows,).

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
        return np.asarray(self.reading.leak(binary).reshape(yes.shape).sum(axis=1))
