"""What a caller has learned by everything that he was answered: leaks that do not simply add up.

A measure prices a row by itself. Here is the rest: an accountant folds evidence into a state, one array per caller,
which whoever keeps callers may store. Totals depend neither on the order of the rows nor on how they came in requests,
and two states of one caller, kept apart, are joined.
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
    """How one kind of leak composes."""

    def nothing(self) -> Floats:
        """The state of a caller who was never answered."""

    def add(self, state: Floats, evidence: Evidence) -> Floats:
        """The state after one more request; ``state`` itself is left as it is. Raises as measures do."""

    def join(self, one: Floats, other: Floats) -> Floats:
        """The state of a caller whose requests were kept in two states."""

    def total(self, state: Floats) -> float:
        """What the caller has learned, >= 0; never less than before."""


class VoteBasedMeasure(Protocol):
    """A measure that rests on votes; ``PateMeasure`` and ``PknnMeasure`` are such."""

    @property
    def reading(self) -> VoteReadout:
        """How votes are read."""

    def votes_of(self, evidence: Evidence) -> Integers:
        """The votes on each row, (rows, classes). Raises as ``measure`` does."""


class EpsilonAccountant:
    """The reading ``eps-composed``: RDP vectors are added per caller and converted once, to epsilon at ``delta``.

    This is the privacy loss of all his answers together (Mironov 2017, Propositions 1 and 3), where ``eps-sum`` adds up
    each answer's own. The state is the summed RDP, shape (orders,).
    """

    def __init__(self, measure: VoteBasedMeasure) -> None:
        """``measure`` says how rows are voted on, and its reading says sigma and delta."""
        self._measure = measure

    def nothing(self) -> Floats:
        """Zero at every order."""
        return np.zeros(ORDERS.size)

    def add(self, state: Floats, evidence: Evidence) -> Floats:
        """Add the RDP of each row."""
        return np.asarray(state + self._measure.reading.rdp(self._measure.votes_of(evidence)).sum(axis=0))

    def join(self, one: Floats, other: Floats) -> Floats:
        """Their sum."""
        return np.asarray(one + other)

    def total(self, state: Floats) -> float:
        """Epsilon at the reading's delta; 0 for a caller who was never answered."""
        return float(epsilon(state, ORDERS, self._measure.reading.delta)) if state.any() else 0.0


class GainAccountant:
    """Information of regression answers about a linear model of the inputs: half the log-determinant of its precision.

    With a prior of variance ``prior`` per weight and answers of noise ``noise``, one more row x is worth
    1/2 log(1 + x' A^-1 x / noise^2) nats, A = I / prior + sum x x' / noise^2 over everything answered so far (Lindley
    1956; Bayesian D-optimality). The state is that sum, shape (d, d).
    """

    def __init__(self, dimensions: int, noise: float = 1.0, prior: float = 1.0) -> None:
        """Inputs have ``dimensions`` numbers; both deviations must be above 0."""
        if dimensions < 1 or not 0.0 < noise < np.inf or not 0.0 < prior < np.inf:
            raise SettingsError(["dimensions, noise and prior must be above 0"])
        self._dimensions, self._noise, self._prior = dimensions, noise, prior

    def nothing(self) -> Floats:
        """No precision beyond the prior's."""
        return np.zeros((self._dimensions, self._dimensions))

    def add(self, state: Floats, evidence: Evidence) -> Floats:
        """Add each row's outer product."""
        rows = inputs_of(evidence, self._dimensions) / self._noise
        grown = state + rows.T @ rows
        if not np.isfinite(grown).all():
            raise RequestError("the inputs hold a number that is too large")
        return np.asarray(grown)

    def join(self, one: Floats, other: Floats) -> Floats:
        """Their sum."""
        return np.asarray(one + other)

    def total(self, state: Floats) -> float:
        """Nats."""
        return float(np.linalg.slogdet(np.eye(self._dimensions) + self._prior * state)[1]) / 2.0


class BucketAccountant:
    """How much of an embedding's space a caller has seen: the share of locality-sensitive buckets that he occupies.

    The signs of ``bits`` random projections name a bucket (Charikar 2002). The answer's vectors are the evidence's
    scores. The state is 1 for each occupied bucket, shape (2^bits,). One table of buckets, seeded.
    Source of the measure: Dubinski et al. 2023, Bucks for Buckets.
    """

    def __init__(self, centre: Floats, bits: int = 12, seed: int = 0) -> None:
        """``centre`` (e,) is what the signs are taken about: the mean of the private embeddings."""
        if not 1 <= bits <= 24:
            raise SettingsError(["the buckets need 1 to 24 bits"])
        self._centre = np.asarray(centre, np.float64)
        self._planes = np.random.default_rng(seed).normal(size=(self._centre.size, bits))

    def nothing(self) -> Floats:
        """All empty."""
        return np.zeros(2 ** self._planes.shape[1])

    def add(self, state: Floats, evidence: Evidence) -> Floats:
        """Occupy the bucket of each row's answer.

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

    def join(self, one: Floats, other: Floats) -> Floats:
        """Occupied in either."""
        return np.maximum(one, other)

    def total(self, state: Floats) -> float:
        """Share of buckets occupied, 0 to 1."""
        return float(state.mean())
