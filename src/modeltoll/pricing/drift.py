"""Drift detection: whether live traffic still has the distribution of the calibration rows.

It tests the p-values of all callers together, with counts that decay with age. No price depends on the result: evidence
from the traffic of others would break the bound on the mean price of honest callers (one unit).
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modeltoll.pricing.conformal_tariff import ConformalTariff
    from modeltoll.records import Floats, Integers

__all__ = ["DriftDetector", "DriftReading"]

HALF_LIFE = 7 * 86_400.0  # seconds in which a row's count halves
REMEMBERED = 65_536  # number of latest distinct inputs that are not counted again
_ENOUGH_ROWS = 5_000.0  # from here on random variation of the mean price is below 0.05 units, at g = 0.8


@dataclass(frozen=True, slots=True, eq=False)
class DriftReading:
    """The state of the traffic. ``rows``: decayed count. ``shares`` (measures, bins): share of rows per bin, 0 if none.

    ``log_evidence``: evidence against a hypothetical single caller of all rows, after the tolerance; suspicion would
    start at ``log_threshold``. ``mean_units``: mean price of the rows without surcharges, at most 1 for honest rows.
    ``tolerated_units``: the largest mean price of rows within the tolerance.
    """

    rows: float
    log_evidence: float
    log_threshold: float
    mean_units: float
    tolerated_units: float
    shares: Floats

    @property
    def drifted(self) -> bool:
        """Whether the traffic differs from the calibration rows, by the evidence or by its mean price."""
        expensive = self.rows >= _ENOUGH_ROWS and self.mean_units > self.tolerated_units
        return expensive or self.log_evidence >= self.log_threshold


class DriftDetector:
    """The decaying p-value histogram of one model's traffic, in memory of one gateway. ``half_life`` is in seconds."""

    def __init__(self, tariff: ConformalTariff, half_life: float = HALF_LIFE) -> None:
        self._tariff = tariff
        self._suspicion = tariff.suspicion
        self._calibration = tariff.calibration
        self._half_life = half_life
        self.shape = tariff.shape
        self._counts = np.zeros(tariff.shape)
        self._mean_factors: dict[float, Floats] = {}  # by g
        self._measure_indices = np.arange(tariff.shape[0])
        self._seen: OrderedDict[bytes, None] = OrderedDict()  # oldest first
        self._at = 0.0

    def add(self, fingerprints: Sequence[bytes], bins: Integers, at: float) -> Integers:
        """Count the rows of a request that are new, and return the number of them in each bin, (measures, bins).

        ``bins`` (rows, measures): as in ``Assessment``. ``at``: seconds since the epoch; counts do not decay while the
        clock runs backwards.
        """
        fresh = []
        for row, fingerprint in enumerate(fingerprints):
            if fingerprint not in self._seen:
                self._seen[fingerprint] = None
                fresh.append(row)
        added = np.zeros(self.shape, np.int64)
        np.add.at(added, (self._measure_indices, bins[fresh]), 1)
        while len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        if at > self._at:
            self._counts *= 0.5 ** ((at - self._at) / self._half_life)
            self._at = at
        self._counts += added
        return added

    @property
    def rows(self) -> float:
        """Decayed count of rows."""
        return float(self._counts[0].sum())

    def mean_price(self, g: float) -> float:
        """Mean price of the counted rows at that g, 0 < g < 1, with the calibration's weights, in units per row.

        See ``ConformalTariff.mean_factors``: at most 1 for a uniform histogram, at every g. 0 if nothing is counted.
        """
        if g not in self._mean_factors:
            self._mean_factors[g] = self._tariff.mean_factors(g)
        return float(np.array(self._calibration.weights) @ (self._shares() * self._mean_factors[g]).sum(axis=1))

    def reading(self) -> DriftReading:
        """The state of the traffic as of the latest row."""
        terms = self._suspicion.terms
        return DriftReading(
            rows=self.rows,
            log_evidence=float(self._suspicion.log_evidence(self._counts)),
            log_threshold=-float(np.log(terms.alpha)),
            mean_units=self.mean_price(self._calibration.g),
            tolerated_units=1.0 + terms.rho,
            shares=self._shares(),
        )

    def _shares(self) -> Floats:
        rows = self._counts.sum(axis=1, keepdims=True)
        return self._counts / np.where(rows > 0.0, rows, 1.0)
