"""The interface of tariffs, which turn leaks into work: ``conformal_tariff`` (the default), ``published_tariff``, ``unpriced_tariff``."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

import numpy as np

from modeltoll.errors import AnswerError, CalibrationError

if TYPE_CHECKING:
    from modeltoll.evidence_records import Verdict
    from modeltoll.records import Account, Assessment, Caller, Floats, Leaks, Work

__all__ = ["NEW_ACCOUNT_ROWS", "Tariff", "check_leak_values", "new_account_share"]

_FEW_LEAKS = 16  # which are checked faster one by one than as an array
NEW_ACCOUNT_ROWS = 10  # a request of k rows owes k / NEW_ACCOUNT_ROWS of the new-account toll, until all of it is paid


def new_account_share(rows: int, before: int = 0) -> float:
    """The fraction of the new-account toll that a request of ``rows`` rows owes.

    ``before``: rows whose shares are paid. The shares of an account that pays all of them sum to 1, however its rows are
    split into requests, or to rows / ``NEW_ACCOUNT_ROWS`` of fewer rows.
    """
    return (min(before + rows, NEW_ACCOUNT_ROWS) - min(before, NEW_ACCOUNT_ROWS)) / NEW_ACCOUNT_ROWS


def check_leak_values(leaks: Leaks, measures: tuple[str, ...]) -> Floats:
    """The values (rows, measures) of ``leaks``, after validation.

    Raises:
        CalibrationError: the leaks are of other measures.
        AnswerError: a leak is negative or not finite; the answer must not be released.
    """
    values = leaks.values
    if leaks.measures != measures or values.ndim != 2 or values.shape[1] != len(measures):
        raise CalibrationError(f"this tariff prices {', '.join(measures)}, not {', '.join(leaks.measures)}")
    if values.size <= _FEW_LEAKS and all(0.0 <= leak < math.inf for leak in values.ravel().tolist()):
        return values
    least = np.minimum.reduce(values, axis=None, initial=0.0)  # a NaN is its own minimum
    if not (least >= 0.0 and np.maximum.reduce(values, axis=None, initial=0.0) < math.inf):
        usable = (values >= 0.0) & (values < math.inf)
        names = " and ".join(name for column, name in enumerate(measures) if not usable[:, column].all())
        raise AnswerError("the leak of an answer is negative or not finite", private=f"by {names}")
    return values


class Tariff(Protocol):
    """The rule from leaks to work, in two pure steps: randomness is an argument, and state is in the ledger."""

    @property
    def identity(self) -> str:
        """A digest of all that evidence and leaks in the ledger depend on; those of another identity restart."""

    @property
    def measures(self) -> tuple[str, ...]:
        """The names of the measures that it prices, in the order of the columns of leaks."""

    @property
    def cell_count(self) -> int:
        """The number of cells that the ledger counts rows in; 0 where the tariff keeps no evidence."""

    @property
    def unit_seconds(self) -> float:
        """The price of an average honest row in reference seconds; 0 where rows cost nothing."""

    def new_account_seconds(self, caller: Caller) -> float:
        """The whole new-account toll of this caller in reference seconds, asked before the upstream is; 0 for none."""

    def assess(self, leaks: Leaks, rng: np.random.Generator) -> Assessment:
        """Price each row independent of the caller. ``rng`` breaks ties among cells and does not affect the price.

        Raises:
            CalibrationError: the leaks are of other measures than this tariff prices.
            AnswerError: a leak is negative or not finite; the answer must not be released.
        """

    def verdict(self, account: Account, logged_as: str = "") -> Verdict:
        """What the evidence says of the caller, from its account after the charge; part of the bill.

        ``logged_as``: the caller's pseudonym in the ledger's log, for callers whose own log is a kind.
        """

    def work(self, assessment: Assessment, account: Account, verdict: Verdict, clean: Floats | None = None) -> Work:
        """The work of the request, without the new-account toll.

        ``clean``: for a suspected caller the leaks (rows, measures) by the measures fitted without kinds; by default those
        of the assessment.
        """
