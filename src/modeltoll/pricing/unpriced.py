"""No prices yet: what a model in shadow mode has until its honest rows are known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.pricing.tariff import check_leak_values
from modeltoll.records import Assessment, Work

if TYPE_CHECKING:
    from modeltoll.records import Account, Leaks

__all__ = ["UnpricedTariff"]


@dataclass(frozen=True, slots=True)
class UnpricedTariff:
    """Every row is measured and logged, and costs nothing. Never for a model whose answers are charged."""

    measures: tuple[str, ...]

    @property
    def identity(self) -> str:
        """Accounts start anew with the first tariff that has prices."""
        return "unpriced"

    @property
    def shape(self) -> tuple[int, int]:
        """One bin per measure: there is nothing to compare with."""
        return (len(self.measures), 1)

    def assess(self, leaks: Leaks, rng: np.random.Generator) -> Assessment:  # noqa: ARG002  the plug's signature
        """Factors of 0, p-values of 1. Raises as ``Tariff.assess`` does."""
        rows = len(check_leak_values(leaks, self.measures))
        return Assessment(np.zeros(rows), np.ones(rows), np.zeros((rows, len(self.measures)), dtype=np.int64))

    def work(self, assessment: Assessment, account: Account) -> Work:  # noqa: ARG002  the plug's signature
        """None."""
        return Work(0.0, len(assessment.factors), 0.0)
