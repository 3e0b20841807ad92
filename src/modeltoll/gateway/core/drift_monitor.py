"""Watches one model's traffic and warns when callers no longer send what the tariff was calibrated on."""

from __future__ import annotations

import logging
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.pricing.drift import concatenated

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from modeltoll.pricing.adaptive_g import AdaptiveG
    from modeltoll.pricing.drift import DriftDetector, DriftReading
    from modeltoll.pricing.tariff import Tariff
    from modeltoll.records import Assessment, Caller, Integers

__all__ = ["DriftMonitor"]

log = logging.getLogger("modeltoll.gateway")

CHECK_ROWS = 256  # rows between two checks for drift


class _PendingRows:
    """Rows that are not counted yet: counting many at once costs little more than one."""

    def __init__(self) -> None:
        self.rows = 0
        self._requests: list[tuple[Sequence[bytes], Assessment]] = []

    def add(self, fingerprints: Sequence[bytes], assessment: Assessment) -> None:
        self._requests.append((fingerprints, assessment))
        self.rows += len(fingerprints)

    def take(self) -> tuple[list[bytes], Assessment] | None:
        """Remove all rows and return their fingerprints and their assessment; None where there are none."""
        requests, self._requests, self.rows = self._requests, [], 0
        if not requests:
            return None
        fingerprints = list(chain.from_iterable(fingerprints for fingerprints, _ in requests))
        return fingerprints, concatenated([assessment for _, assessment in requests])


class DriftMonitor:
    """The traffic of one model, as recorded by its gate. ``clock`` gives seconds since the epoch.

    Rows of exempt callers are left out. Those of callers under suspicion count: they may be honest callers whose rows have
    changed. ``adaptive_g``, where given, chooses g from the same rows.
    """

    def __init__(
        self, model: str, detector: DriftDetector, clock: Callable[[], float], adaptive_g: AdaptiveG | None = None
    ) -> None:
        self._model = model
        self._detector = detector
        self._clock = clock
        self._adaptive_g = adaptive_g
        self._pending = _PendingRows()
        self._drifted = False
        self._counts: Integers = np.zeros(detector.cell_count, np.int64)

    @property
    def g(self) -> float | None:
        """The current g, where it is chosen here."""
        return self._adaptive_g.g if self._adaptive_g else None

    def current_tariff(self, tariff: Tariff) -> Tariff:
        """The tariff for the next request: the given one, or the same with the g that is chosen here."""
        return self._adaptive_g.tariff if self._adaptive_g else tariff

    def record(self, caller: Caller, fingerprints: Sequence[bytes], assessment: Assessment) -> None:
        """Record a request's rows. Every ``CHECK_ROWS`` rows they are counted and checked for drift."""
        if caller.exempt:
            return
        self._pending.add(fingerprints, assessment)
        if self._pending.rows >= CHECK_ROWS:
            self._check()

    def _count(self) -> None:
        if rows := self._pending.take():
            now = self._clock()
            self._counts += self._detector.add(*rows, now)
            if self._adaptive_g:
                self._adaptive_g.add(*rows, now)

    def _check(self) -> None:
        reading, before = self.reading(), self._drifted
        self._drifted = reading.drifted
        if reading.drifted and not before:
            log.warning(
                "%s: callers send rows unlike those that the tariff was calibrated on; without surcharges they cost "
                "%.2f units a row, not at most 1 (ln evidence %.1f). Calibrate again with recent rows of honest callers, "
                "or look for a theft",
                self._model,
                reading.mean_units,
                reading.log_evidence,
            )

    def reading(self) -> DriftReading:
        """The evidence of drift and the mean price now."""
        self._count()
        return self._detector.reading()

    def drain_counts(self) -> Integers:
        """The rows counted in each cell since the last call, (cells,)."""
        self._count()
        counts, self._counts = self._counts, np.zeros_like(self._counts)
        return counts
