"""Accountants: the total leak to one caller, for leaks that do not add up over rows.

A measure gives the leak of a single row. An accountant folds the evidence of all requests of a caller into a state, one
array per caller. The total depends neither on the order of the rows nor on their split into requests, and two states of
one caller can be merged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from modeltoll.errors import AnswerError, RequestError, SettingsError
from modeltoll.leak.inputs import check_inputs, inputs_of
from modeltoll.leak.rdp import ORDERS, epsilon

if TYPE_CHECKING:
    from modeltoll.leak.pate import VoteReadout
    from modeltoll.records import Evidence, Floats, Integers

__all__ = ["Accountant", "BucketAccountant", "EpsilonAccountant", "GainAccountant", "VoteBasedMeasure"]


class Accountant(Protocol):
    """The composition of one kind of leak over requests."""

    def initial(self) -> Floats:
        """The state of a caller without answers."""

    def add(self, state: Floats, evidence: Evidence) -> Floats:
        """The state after one more request; ``state`` is not modified. Raises as ``LeakMeasure.measure`` does."""

    def merge(self, one: Floats, other: Floats) -> Floats:
        """The state of a caller whose requests were split over two states."""

    def total(self, state: Floats) -> float:
        """The leak to the caller so far, >= 0, in the accountant's unit; never decreases."""


class VoteBasedMeasure(Protocol):
    """A measure computed from votes, such as ``PateMeasure`` and ``PknnMeasure``."""

    @property
    def readout(self) -> VoteReadout:
        """How votes are turned into a leak."""

    def votes_of(self, evidence: Evidence) -> Integers:
        """The votes on each row, shape (rows, classes). Raises as ``measure`` does."""


class EpsilonAccountant:
    """The readout ``eps-composed``: the RDP of all rows of a caller is summed and converted once to epsilon at ``delta``.

    This is the privacy loss of all answers together (Mironov 2017, Propositions 1 and 3), whereas ``eps-sum`` adds up
    the epsilon of each answer. The state is the summed RDP, shape (orders,).
    """

    def __init__(self, measure: VoteBasedMeasure) -> None:
        """``measure`` gives the votes; its readout gives sigma and delta."""
        self._measure = measure

    def initial(self) -> Floats:
        """Zero at every order."""
        return np.zeros(ORDERS.size)

    def add(self, state: Floats, evidence: Evidence) -> Floats:
        """Add the RDP of each row."""
        return np.asarray(state + self._measure.readout.rdp(self._measure.votes_of(evidence)).sum(axis=0))

    def merge(self, one: Floats, other: Floats) -> Floats:
        """Their sum."""
        return np.asarray(one + other)

    def total(self, state: Floats) -> float:
        """Epsilon at the readout's delta; 0 for a caller without answers."""
        return float(epsilon(state, ORDERS, self._measure.readout.delta)) if state.any() else 0.0


class GainAccountant:
    """Information of regression answers about a linear model of the inputs: half the log-determinant of its precision.

    With a prior variance ``prior`` per weight and answers with noise of standard deviation ``noise``, one more row x
    adds 1/2 log(1 + x' A^-1 x / noise^2) nats, where A = I / prior + sum x x' / noise^2 over all rows before (Lindley
    1956; Bayesian D-optimality). The state is that sum, shape (d, d).
    """

    def __init__(self, dimensions: int, noise: float = 1.0, prior: float = 1.0) -> None:
        """Inputs have ``dimensions`` numbers; ``noise`` is a standard deviation, ``prior`` a variance, both above 0."""
        if dimensions < 1 or not 0.0 < noise < np.inf or not 0.0 < prior < np.inf:
            raise SettingsError(["dimensions, noise and prior must be above 0"])
        self._dimensions, self._noise, self._prior = dimensions, noise, prior

    def initial(self) -> Floats:
        """A (d, d) array of zeros: no precision beyond the prior's."""
        return np.zeros((self._dimensions, self._dimensions))

    def add(self, state: Floats, evidence: Evidence) -> Floats:
        """Add the outer product of each row, over noise^2.

        Raises:
            RequestError: the inputs are missing, of a wrong shape, not finite or too large.
        """
        rows = inputs_of(evidence, self._dimensions) / self._noise
        grown = state + rows.T @ rows
        if not np.isfinite(grown).all():
            raise RequestError("the inputs hold a number that is too large")
        return np.asarray(grown)

    def merge(self, one: Floats, other: Floats) -> Floats:
        """Their sum."""
        return np.asarray(one + other)

    def total(self, state: Floats) -> float:
        """Information in nats."""
        return float(np.linalg.slogdet(np.eye(self._dimensions) + self._prior * state)[1]) / 2.0


class BucketAccountant:
    """Coverage of an embedding's space: the share of locality-sensitive hash buckets that a caller's answers fall into.

    The signs of ``bits`` random projections are the index of a bucket (Charikar 2002). The embeddings are the scores of
    the evidence, shape (rows, e). The state is 1 for each bucket that is hit, shape (2^bits,). One hash table, seeded.
    Source of the measure: Dubinski et al. 2023, Bucks for Buckets.
    """

    def __init__(self, centre: Floats, bits: int = 12, seed: int = 0) -> None:
        """``centre`` (e,) is subtracted before projecting: the mean of the private embeddings. ``bits``: 1 to 24."""
        if not 1 <= bits <= 24:
            raise SettingsError(["the buckets need 1 to 24 bits"])
        self._centre = np.asarray(centre, np.float64)
        self._planes = np.random.default_rng(seed).normal(size=(self._centre.size, bits))

    def initial(self) -> Floats:
        """Zeros: no bucket is hit."""
        return np.zeros(2 ** self._planes.shape[1])

    def add(self, state: Floats, evidence: Evidence) -> Floats:
        """Mark the bucket of each row's embedding.

        Raises:
            AnswerError: the answer's vectors are missing, not finite, or of another length.
        """
        try:
            vectors = check_inputs(evidence.scores, self._centre.size)
        except RequestError:
            raise AnswerError(f"the answer does not show vectors of {self._centre.size} finite numbers") from None
        if len(vectors) != evidence.rows:
            raise AnswerError(f"the request has {evidence.rows} rows but the answer has vectors for {len(vectors)}")
        grown = state.copy()
        signs = (vectors - self._centre) @ self._planes > 0.0
        grown[signs @ (1 << np.arange(signs.shape[1]))] = 1.0
        return grown

    def merge(self, one: Floats, other: Floats) -> Floats:
        """Buckets hit in either state."""
        return np.maximum(one, other)

    def total(self, state: Floats) -> float:
        """Share of buckets that are hit, 0 to 1."""
        return float(state.mean())
