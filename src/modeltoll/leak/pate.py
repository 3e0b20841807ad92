"""Leak measure ``pate``: the privacy loss of a vote of teachers that were trained on disjoint private data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from modeltoll.errors import CalibrationError, SettingsError
from modeltoll.leak.inputs import inputs_of
from modeltoll.leak.rdp import ORDERS, epsilon, gnmax_rdp, log_q

if TYPE_CHECKING:
    from modeltoll.records import Evidence, Floats, Integers

__all__ = ["EPS_SUM", "RDP", "TEACHERS_PER_SIGMA", "PateMeasure", "VoteReadout", "Voters", "vote_readout"]

RDP, EPS_SUM = "rdp", "eps-sum"
_KINDS = (RDP, EPS_SUM)
_ROWS = 1024  # rows whose RDP at all orders is in memory at once
TEACHERS_PER_SIGMA = 25.0  # Dziedzic et al. 2022: sigma 10 for 250 teachers, 2 for 50


class Voters(Protocol):
    """The vote of an ensemble, such as ``TeacherEnsemble.votes``."""

    def __call__(self, inputs: Floats, /) -> Integers:
        """Inputs (rows, dimensions) to counts of votes (rows, classes), each row summing to the number of voters."""


@dataclass(frozen=True, slots=True)
class VoteReadout:
    """How votes are turned into a leak. ``kind`` is one of:

    ``rdp``: the Rényi divergence of one GNMax query at one fixed order. It adds up and composes exactly.
    ``eps-sum``: epsilon at ``delta`` of each query alone, summed as in Dziedzic et al. 2022. This is no composition;
    most of the sum is the log(1/delta) term.
    The third readout, ``eps-composed``, is not a property of a row: see ``accountants.EpsilonAccountant``.
    None uses the threshold of confident GNMax: the paper disables it, because every query is answered.

    ``sigma``: standard deviation of the virtual noise, in votes. ``order`` (above 1) defaults to max(2, sigma). Within
    2 % this is the order at which the data-dependent bound starts to distinguish votes at the largest q, near
    log q = -2.9. At lower orders the bound is capped earlier; at higher orders Theorem 6 needs more agreement.

    Raises:
        SettingsError: a value that cannot be used.
    """

    sigma: float
    kind: str = RDP
    order: float | None = None
    delta: float = 1e-5

    def __post_init__(self) -> None:
        faults = []
        if not 0.0 < self.sigma < np.inf:
            faults.append("sigma must be a positive number of votes")
        if self.kind not in _KINDS:
            faults.append(f"the reading is {self.kind!r}; it may be {' or '.join(_KINDS)}")
        if self.order is not None and not 1.0 < self.order < np.inf:
            faults.append("the order must be above 1")
        if not 0.0 < self.delta < 1.0:
            faults.append("delta must lie between 0 and 1")
        if faults:
            raise SettingsError(faults)

    def leak(self, votes: Integers) -> Floats:
        """The leak of each row of votes (rows, classes >= 2), shape (rows,), finite and >= 0."""
        values, inverse = np.unique(log_q(votes, self.sigma), return_inverse=True)
        if self.kind == RDP:
            order = max(2.0, self.sigma) if self.order is None else self.order
            return np.asarray(gnmax_rdp(values, self.sigma, np.array([order]))[inverse, 0])
        starts = range(0, values.size, _ROWS)
        parts = [epsilon(gnmax_rdp(values[i : i + _ROWS], self.sigma, ORDERS), ORDERS, self.delta) for i in starts]
        return np.asarray(np.concatenate([np.empty(0), *parts])[inverse])

    def rdp(self, votes: Integers) -> Floats:
        """The RDP of each row of votes (rows, classes >= 2) at ``rdp.ORDERS``, shape (rows, orders)."""
        return gnmax_rdp(log_q(votes, self.sigma), self.sigma, ORDERS)


def vote_readout(teachers: int, readout: VoteReadout | None) -> VoteReadout:
    """The given readout, or ``rdp`` at sigma = teachers / 25 if it is None.

    Raises:
        SettingsError: ``teachers`` is below 1.
    """
    if teachers < 1:
        raise SettingsError(["there must be at least one teacher"])
    return VoteReadout(teachers / TEACHERS_PER_SIGMA) if readout is None else readout


class PateMeasure:
    """The leak of a vote of teachers trained on disjoint parts of the private data, in the readout's unit.

    Where the teachers agree, the answer reveals little about any one part of the data.
    Source: Dziedzic et al. 2022, section 3.1, after Papernot et al. 2018.
    """

    inputs_alone: ClassVar[bool] = True

    __slots__ = ("_voters", "input_width", "name", "readout", "teachers")

    def __init__(
        self,
        voters: Voters,
        teachers: int,
        readout: VoteReadout | None = None,
        name: str = "pate",
        input_width: int | None = None,
    ) -> None:
        """``voters`` gives ``teachers`` votes per row, which has ``input_width`` numbers (None: not known).

        ``readout`` defaults to ``rdp`` at sigma = teachers / 25.
        """
        self.input_width = input_width
        self.name = name
        self.teachers = teachers
        self.readout = vote_readout(teachers, readout)
        self._voters = voters

    def measure(self, evidence: Evidence) -> Floats:
        """The leak of the teachers' votes on each row's input, shape (rows,).

        Raises:
            RequestError: the inputs are missing, of a wrong shape, or not finite.
            CalibrationError: the teachers' votes are not ``teachers`` whole votes per row.
        """
        return self.readout.leak(self.votes_of(evidence))

    def votes_of(self, evidence: Evidence) -> Integers:
        """The votes on each row, shape (rows, classes). Raises as ``measure`` does."""
        inputs = inputs_of(evidence)
        return self._check(self._voters(inputs), len(inputs))

    def _check(self, votes: Any, rows: int) -> Integers:
        counts = np.asarray(votes)
        if counts.ndim != 2 or len(counts) != rows or counts.shape[1] < 2 or counts.dtype.kind not in "iu":
            raise CalibrationError("the teachers did not vote with whole counts of shape (rows, classes)")
        counts = counts.astype(np.int64, copy=False)
        if (counts < 0).any() or not (counts.sum(axis=1) == self.teachers).all():
            raise CalibrationError(f"the teachers' votes do not sum to {self.teachers} in every row")
        return counts
