"""A watch on one model's traffic: a warning when honest callers no longer send what the tariff was made for."""

from __future__ import annotations

import logging
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from modeltoll.pricing.drift import Drift, DriftReading
    from modeltoll.records import Assessment, Caller, Integers, Work

__all__ = ["Monitor"]

log = logging.getLogger("modeltoll.gateway")

LOOK = 256  # rows between two looks at the evidence


class Monitor:
    """What a gate tells of its visits, and what the operator reads of them. ``clock`` gives seconds since the epoch.

    Rows of exempt callers and of callers under suspicion stay out: what the others send is honest, or a theft spread
    so thinly that it looks like drift.
    """

    def __init__(self, model: str, drift: Drift, clock: Callable[[], float]) -> None:
        self._model = model
        self._drift = drift
        self._clock = clock
        self._waiting: list[tuple[Sequence[bytes], Integers]] = []  # fingerprints and bins of rows not yet counted
        self._rows = 0  # how many they are
        self._drifted = False
        self._counted: Integers = np.zeros(drift.shape, np.int64)

    def saw(self, caller: Caller, fingerprints: Sequence[bytes], assessment: Assessment, work: Work) -> None:
        """Note a request's rows; from time to time they are counted, and the evidence is looked at."""
        if caller.exempt or work.suspected:
            return
        self._waiting.append((fingerprints, assessment.bins))
        self._rows += len(fingerprints)
        if self._rows >= LOOK:
            self._look()

    def _count(self) -> None:
        waiting, self._waiting, self._rows = self._waiting, [], 0
        if waiting:
            fingerprints = list(chain.from_iterable(names for names, _ in waiting))
            bins = np.concatenate([bins for _, bins in waiting])
            self._counted += self._drift.add(fingerprints, bins, self._clock())

    def _look(self) -> None:
        reading, before = self.reading(), self._drifted
        self._drifted = reading.drifted
        if reading.drifted and not before:
            log.warning(
                "%s: callers who are not suspected send rows unlike those that the tariff was calibrated on; they pay "
                "%.2f units a row, not at most 1 (ln evidence %.1f). Calibrate anew with recent rows, or look for a "
                "theft by many accounts",
                self._model,
                reading.mean_units,
                reading.log_evidence,
            )

    def reading(self) -> DriftReading:
        """How the traffic stands now."""
        self._count()
        return self._drift.reading()

    def drain(self) -> Integers:
        """The rows counted in each bin since the last drain, (measures, bins)."""
        self._count()
        counted, self._counted = self._counted, np.zeros(self._drift.shape, np.int64)
        return counted
