"""The tariff without prices, for shadow mode before a calibration exists."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.evidence_records import Verdict
from modeltoll.pricing.tariff import check_leak_values
from modeltoll.records import Assessment, Work

if TYPE_CHECKING:
    from modeltoll.records import Account, Caller, Floats, Leaks

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
    def cell_count(self) -> int:
        """0: there are no calibration rows to compare with."""
        return 0

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
        return Assessment(np.zeros(rows), np.ones(rows), np.zeros(rows, np.int64), leaks)

    def verdict(self, account: Account, logged_as: str = "") -> Verdict:  # noqa: ARG002  the protocol's signature
        """No evidence, and nothing to store."""
        return Verdict()

    def work(
        self,
        assessment: Assessment,
        account: Account,  # noqa: ARG002  the protocol's signature
        verdict: Verdict,  # noqa: ARG002
        clean: Floats | None = None,  # noqa: ARG002
    ) -> Work:
        """No work."""
        return Work(0.0, len(assessment.factors), 0.0)
