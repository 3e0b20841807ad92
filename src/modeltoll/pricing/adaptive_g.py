"""The g in force, where it is chosen from what the whole API was sent lately.

Every g keeps the honest mean at one unit, and so does any choice that looks only at rows that were priced before: the
next row's p-value is uniform whatever was chosen. What changes is who pays: a larger g asks more of the rarest rows and
less of the others.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from modeltoll.pricing.conformal import ConformalTariff
from modeltoll.pricing.drift import DriftDetector

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modeltoll.records import Integers

__all__ = ["CHOICES", "ENOUGH_ROWS", "AdaptiveG"]

CHOICES = (0.5, 0.6, 0.7, 0.8, 0.9)
ENOUGH_ROWS = 1000.0  # fewer tell chance from theft no better than the operator did
HALF_LIFE = 86_400.0


class AdaptiveG:
    """One model's tariff at each g. ``tariff`` is the one in force: at first the operator's own."""

    def __init__(self, tariff: ConformalTariff, half_life: float = HALF_LIFE) -> None:
        choices = sorted({*CHOICES, tariff.calibration.g})
        self._tariffs = {g: ConformalTariff(replace(tariff.calibration, g=g)) for g in choices}
        self._past = DriftDetector(tariff, half_life)
        self.tariff = tariff

    @property
    def g(self) -> float:
        """The g in force."""
        return self.tariff.calibration.g

    def add(self, fingerprints: Sequence[bytes], bins: Integers, at: float) -> None:
        """Look at rows of all callers once they are priced, and choose the g that would have earned most of late.

        ``bins`` (rows, measures); ``at`` in seconds since the epoch. Rows sent before count once, and a g must earn
        more than the one in force to replace it.
        """
        self._past.add(fingerprints, bins, at)
        if self._past.rows >= ENOUGH_ROWS:
            best = max(self._tariffs, key=lambda g: (self._past.earnings(g), g == self.g))
            self.tariff = self._tariffs[best]
