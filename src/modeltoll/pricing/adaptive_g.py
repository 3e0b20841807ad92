"""Adapt the exponent g of a conformal tariff to the recent traffic of all callers.

Every g keeps the mean price of honest rows at one unit at most, and so does any choice that depends on earlier rows
only, because the p-value of the next row is uniform regardless of the choice. A larger g prices the rarest rows higher
and the others lower.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from modeltoll.pricing.conformal_tariff import ConformalTariff
from modeltoll.pricing.drift import DriftDetector

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modeltoll.records import Integers

__all__ = ["CHOICES", "ENOUGH_ROWS", "AdaptiveG"]

CHOICES = (0.5, 0.6, 0.7, 0.8, 0.9)
ENOUGH_ROWS = 1000.0  # with fewer rows the operator's g stays in force
HALF_LIFE = 86_400.0  # seconds


class AdaptiveG:
    """One model's tariff at each g in ``CHOICES``. ``tariff`` is the one in force, initially at the operator's g.

    ``half_life``: seconds in which the weight of a row halves.
    """

    def __init__(self, tariff: ConformalTariff, half_life: float = HALF_LIFE) -> None:
        choices = sorted({*CHOICES, tariff.calibration.g})
        self._tariffs = {g: ConformalTariff(replace(tariff.calibration, g=g), choices[-1]) for g in choices}
        self.tariff = self._tariffs[tariff.calibration.g]
        self._traffic = DriftDetector(self.tariff, half_life)

    @property
    def g(self) -> float:
        """The g in force."""
        return self.tariff.calibration.g

    def add(self, fingerprints: Sequence[bytes], bins: Integers, at: float) -> None:
        """Add priced rows of any caller, and choose the g with the highest mean price over the recent rows.

        ``bins`` (rows, measures): as in ``Assessment``. ``at``: seconds since the epoch. Repeated rows count once. The g
        in force stays unless another one has a higher mean price.
        """
        self._traffic.add(fingerprints, bins, at)
        if self._traffic.rows >= ENOUGH_ROWS:
            best = max(self._tariffs, key=lambda g: (self._traffic.mean_price(g), g == self.g))
            self.tariff = self._tariffs[best]
