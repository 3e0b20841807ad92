"""The tariff without prices, for shadow mode before a calibration exists."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.pricing.tariff import check_leak_values
from modeltoll.records import Assessment, Work

if TYPE_CHECKING:
    from modeltoll.records import Account, Caller, Leaks

__all__ = ["UnpricedTariff"]


@dataclass(frozen=True, slots=True)
class UnpricedTariff:
    """Every row is measured and logged, and costs nothing. Not for enforce mode."""

    measures: tuple[str, ...]

    @property
    def identity(self) -> str:
        """A constant; counts and leaks restart with the first tariff that has prices."""
        return "unpriced"

    @property
    def shape(self) -> tuple[int, int]:
        """One bin per measure: there are no calibration rows to compare with."""
        return (len(self.measures), 1)

    @property
    def unit_seconds(self) -> float:
        """0: rows cost nothing."""
        return 0.0

    def new_account_seconds(self, caller: Caller) -> float:  # noqa: ARG002  the protocol's signature
        """0: new accounts cost nothing."""
        return 0.0

    def assess(self, leaks: Leaks, rng: np.random.Generator) -> Assessment:  # noqa: ARG002  the protocol's signature
        """Factors of 0, p-values of 1. Raises as ``Tariff.assess`` does."""
        rows = len(check_leak_values(leaks, self.measures))
        return Assessment(np.zeros(rows), np.ones(rows), np.zeros((rows, len(self.measures)), dtype=np.int64))

    def work(self, assessment: Assessment, account: Account) -> Work:  # noqa: ARG002  the protocol's signature
        """No work."""
        return Work(0.0, len(assessment.factors), 0.0)
