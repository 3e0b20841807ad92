"""Drift detection: whether live traffic still has a distribution of the honest rows of the calibration.

It tests the cells of all callers' rows together, with counts that decay with age, against every mixture of the kinds. No price
depends on the result: evidence from the traffic of others would break the bound on the mean price of honest callers (one unit).
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.evidence_records import EvidenceState
from modeltoll.records import Assessment, Leaks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modeltoll.pricing.conformal_tariff import ConformalTariff
    from modeltoll.records import Floats, Integers

__all__ = ["DriftDetector", "DriftReading", "RecentInputs", "concatenated"]

HALF_LIFE = 7 * 86_400.0  # seconds in which a row's count halves
REMEMBERED = 65_536  # number of latest distinct inputs that are not counted again
_ENOUGH_ROWS = 5_000.0  # from here on random variation of the mean price is below 0.05 units, at g = 0.8


def concatenated(assessments: Sequence[Assessment]) -> Assessment:
    """The assessment of the rows of one or more requests of one model, in order."""
    leaks = [assessment.leaks for assessment in assessments]
    classes = [each.classes for each in leaks if each.classes is not None]
    return Assessment(
        np.concatenate([assessment.factors for assessment in assessments]),
        np.concatenate([assessment.rarest for assessment in assessments]),
        np.concatenate([assessment.cells for assessment in assessments]),
        Leaks(
            leaks[0].measures,
            np.concatenate([each.values for each in leaks]),
            np.concatenate(classes) if len(classes) == len(leaks) else None,
        ),
    )


class RecentInputs:
    """The latest inputs, each of which counts once, and the decay of what was counted. ``half_life`` is in seconds."""

    def __init__(self, half_life: float) -> None:
        self._half_life = half_life
        self._seen: OrderedDict[bytes, None] = OrderedDict()  # oldest first
        self._at = 0.0

    def add(self, fingerprints: Sequence[bytes], at: float) -> tuple[list[int], float]:
        """The places of the rows that are new, and the factor by which earlier counts have decayed at that time.

        ``at``: seconds since the epoch; counts do not decay while the clock runs backwards.
        """
        fresh = []
        for place, fingerprint in enumerate(fingerprints):
            if fingerprint not in self._seen:
                self._seen[fingerprint] = None
                fresh.append(place)
        while len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        elapsed = max(0.0, at - self._at)
        self._at += elapsed
        return fresh, 0.5 ** (elapsed / self._half_life)


@dataclass(frozen=True, slots=True, eq=False)
class DriftReading:
    """The state of the traffic. ``rows``: decayed count. ``shares`` (cells,): share of rows per cell, 0 without rows.

    ``log_evidence``: evidence against a hypothetical single caller of all rows, who may send any mixture of kinds, after the
    tolerances; suspicion would start at ``log_threshold``. ``mean_units``: mean price of the rows without surcharges, at most
    1 for honest rows. ``tolerated_units``: the largest mean price of rows within the tolerance.
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
    """The decaying counts of cells of one model's traffic, in memory of one gateway. ``half_life`` is in seconds."""

    def __init__(self, tariff: ConformalTariff, half_life: float = HALF_LIFE) -> None:
        self._suspicion = tariff.suspicion
        self._inputs = RecentInputs(half_life)
        self.cell_count = tariff.cell_count
        self._counts = np.zeros(tariff.cell_count)
        self._units = 0.0

    def add(self, fingerprints: Sequence[bytes], assessment: Assessment, at: float) -> Integers:
        """Count the rows that are new, of one request or of several ``concatenated``; returns their counts (cells,).

        ``at``: seconds since the epoch.
        """
        fresh, kept = self._inputs.add(fingerprints, at)
        added = np.bincount(assessment.cells[fresh], minlength=self.cell_count)
        self._counts = kept * self._counts + added
        self._units = kept * self._units + float(assessment.factors[fresh].sum())
        return added

    @property
    def rows(self) -> float:
        """Decayed count of rows."""
        return float(self._counts.sum())

    def reading(self) -> DriftReading:
        """The state of the traffic as of the latest row."""
        terms, rows = self._suspicion.terms, self.rows
        return DriftReading(
            rows=rows,
            log_evidence=self._log_evidence(),
            log_threshold=-float(np.log(terms.alpha)),
            mean_units=self._units / rows if rows else 0.0,
            tolerated_units=1.0 + terms.rho,
            shares=self._counts / rows if rows else self._counts.copy(),
        )

    def _log_evidence(self) -> float:
        """That of all rows, without restarts, which would find a passing peak to be drift."""
        counts = tuple(np.rint(self._counts).astype(np.int64).tolist())
        all_rows, *_ = self._suspicion.components(replace(EvidenceState.new(self.cell_count, 0.0), counts=counts))
        return all_rows[1]
