"""Adapt the exponent g of a conformal tariff to the recent traffic of all callers.

Every g keeps the mean price of honest rows at one unit at most, and so does any choice that depends on earlier rows
only, because the p-value of the next row is super-uniform regardless of the choice. A larger g prices the rarest rows higher
and the others lower.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from modeltoll.pricing.conformal_tariff import ConformalTariff
from modeltoll.pricing.drift import RecentInputs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modeltoll.records import Assessment

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
        finest = ConformalTariff(tariff.calibration, choices[-1])
        self._tariffs = {g: finest.at(g) for g in choices}
        self.tariff = self._tariffs[tariff.calibration.g]
        self._inputs = RecentInputs(half_life)
        self._rows = 0.0
        self._units = np.zeros(len(choices))  # of the counted rows at each g

    @property
    def g(self) -> float:
        """The g in force."""
        return self.tariff.calibration.g

    def add(self, fingerprints: Sequence[bytes], assessment: Assessment, at: float) -> None:
        """Add priced rows of any caller, and choose the g with the highest mean price over the recent rows.

        ``at``: seconds since the epoch. Repeated rows count once. The g in force stays unless another one has a higher mean
        price.
        """
        fresh, kept = self._inputs.add(fingerprints, at)
        leaks = assessment.leaks.rows(np.array(fresh, np.int64))
        self._rows = kept * self._rows + len(fresh)
        self._units = kept * self._units + [tariff.factors(leaks).sum() for tariff in self._tariffs.values()]
        if self._rows >= ENOUGH_ROWS:
            means = dict(zip(self._tariffs, self._units.tolist(), strict=True))
            self.tariff = self._tariffs[max(means, key=lambda g: (means[g], g == self.g))]
