"""Whether honest traffic still looks like the rows that the tariff was calibrated on.

The p-values of all callers together, faded by age. No price depends on it: a whole API's evidence against its honest
callers would break the promise that they have (a mean price of one unit at most).
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modeltoll.pricing.conformal import ConformalTariff
    from modeltoll.records import Floats, Integers

__all__ = ["DriftDetector", "DriftReading"]

HALF_LIFE = 7 * 86_400.0  # seconds in which a row's count fades to a half
REMEMBERED = 65_536  # how many of the latest different inputs are not counted again
_ENOUGH_ROWS = 5_000.0  # from here on chance moves the mean price by less than 0.05 units, at g = 0.8


@dataclass(frozen=True, slots=True, eq=False)
class DriftReading:
    """How the traffic stands. ``rows`` are faded; ``shares`` (measures, bins) are those of the rows, 0 without any.

    ``log_evidence`` is that of a single caller who had sent all of it, tolerance included; he would be suspected from
    ``log_threshold`` on. ``mean_units`` is the mean price of the rows without surcharges, of which the promise is
    1 at most; ``tolerated_units`` what rows within the tolerance can reach.
    """

    rows: float
    log_evidence: float
    log_threshold: float
    mean_units: float
    tolerated_units: float
    shares: Floats

    @property
    def drifted(self) -> bool:
        """Whether the traffic is no longer like the calibration rows: by the evidence, or by what it pays."""
        dear = self.rows >= _ENOUGH_ROWS and self.mean_units > self.tolerated_units
        return dear or self.log_evidence >= self.log_threshold


class DriftDetector:
    """The faded histogram of one model's traffic, in the memory of one gateway. ``half_life`` is in seconds."""

    def __init__(self, tariff: ConformalTariff, half_life: float = HALF_LIFE) -> None:
        self._tariff = tariff
        self._suspicion = tariff.suspicion
        self._calibration = tariff.calibration
        self._half_life = half_life
        self.shape = tariff.shape
        self._counts = np.zeros(tariff.shape)
        self._means: dict[float, Floats] = {}  # by g
        self._places = np.arange(tariff.shape[0])
        self._seen: OrderedDict[bytes, None] = OrderedDict()  # oldest first
        self._at = 0.0

    def add(self, fingerprints: Sequence[bytes], bins: Integers, at: float) -> Integers:
        """Count a request's rows, as far as they are new, and return how many fell into each bin, (measures, bins).

        ``bins`` (rows, measures); ``at`` in seconds since the epoch. A clock that went back fades nothing.
        """
        fresh = []
        for row, fingerprint in enumerate(fingerprints):
            if fingerprint not in self._seen:
                self._seen[fingerprint] = None
                fresh.append(row)
        added = np.zeros(self.shape, np.int64)
        np.add.at(added, (self._places, bins[fresh]), 1)
        while len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        if at > self._at:
            self._counts *= 0.5 ** ((at - self._at) / self._half_life)
            self._at = at
        self._counts += added
        return added

    @property
    def rows(self) -> float:
        """How many rows are counted, faded."""
        return float(self._counts[0].sum())

    def earnings(self, g: float) -> float:
        """Mean units per row that these rows would have paid at that g, 0 < g < 1, with the calibration's weights.

        See ``ConformalTariff.mean_factors``: a uniform histogram earns 1 unit at most, at every g. 0 where nothing was
        counted.
        """
        if g not in self._means:
            self._means[g] = self._tariff.mean_factors(g)
        return float(np.array(self._calibration.weights) @ (self._shares() * self._means[g]).sum(axis=1))

    def reading(self) -> DriftReading:
        """How the traffic stands, as of the latest row."""
        terms = self._suspicion.terms
        return DriftReading(
            rows=self.rows,
            log_evidence=float(self._suspicion.log_evidence(self._counts)),
            log_threshold=-float(np.log(terms.alpha)),
            mean_units=self.earnings(self._calibration.g),
            tolerated_units=1.0 + terms.rho,
            shares=self._shares(),
        )

    def _shares(self) -> Floats:
        rows = self._counts.sum(axis=1, keepdims=True)
        return self._counts / np.where(rows > 0.0, rows, 1.0)
