"""The plug of the pricing room."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

from modeltoll.errors import AnswerError, CalibrationError

if TYPE_CHECKING:
    import numpy as np

    from modeltoll.records import Account, Assessment, Floats, Leaks, Work

__all__ = ["Tariff", "check_leak_values"]


def check_leak_values(leaks: Leaks, measures: tuple[str, ...]) -> Floats:
    """The leaks' values (rows, measures), once they are what every tariff may count on.

    Raises:
        CalibrationError: the leaks are of other measures.
        AnswerError: a leak is negative or not finite; the answer must not go out unpriced.
    """
    values = leaks.values
    if leaks.measures != measures or values.ndim != 2 or values.shape[1] != len(measures):
        raise CalibrationError(f"this tariff prices {', '.join(measures)}, not {', '.join(leaks.measures)}")
    if not (values.min(initial=0.0) >= 0.0 and values.max(initial=0.0) < math.inf):  # a NaN is its own minimum
        raise AnswerError("the leak of an answer is negative or not finite")
    return values


class Tariff(Protocol):
    """Leak to work. Both steps are pure: chance is an argument, memory is the ledger's."""

    @property
    def identity(self) -> str:
        """A digest of what counts and leaks mean; those kept under another identity are not comparable."""

    @property
    def measures(self) -> tuple[str, ...]:
        """The names of the measures it prices, in the order of the leaks' columns."""

    @property
    def shape(self) -> tuple[int, int]:
        """(measures, bins) of the histogram that the ledger keeps per caller."""

    def assess(self, leaks: Leaks, rng: np.random.Generator) -> Assessment:
        """Price each row without regard to who asks. ``rng`` breaks ties in what is counted, never in the price.

        Raises:
            CalibrationError: the leaks are of other measures than this tariff prices.
            AnswerError: a leak is negative or not finite; the answer must not go out unpriced.
        """

    def work(self, assessment: Assessment, account: Account) -> Work:
        """The work of the request, given what the ledger knows of the caller after the charge."""
