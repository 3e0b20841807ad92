"""A watch on one model's traffic: a warning when honest callers no longer send what the tariff was made for."""

from __future__ import annotations

import logging
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from modeltoll.pricing.adaptive_g import AdaptiveG
    from modeltoll.pricing.drift import DriftDetector, DriftReading
    from modeltoll.pricing.tariff import Tariff
    from modeltoll.records import Assessment, Caller, Integers, Work

__all__ = ["DriftMonitor"]

log = logging.getLogger("modeltoll.gateway")

LOOK = 256  # rows between two looks at the evidence


class _PendingRows:
    """Fingerprints and bins of rows that are not counted yet: many at once cost little more than one."""

    def __init__(self) -> None:
        self.rows = 0
        self._requests: list[tuple[Sequence[bytes], Integers]] = []

    def add(self, fingerprints: Sequence[bytes], bins: Integers) -> None:
        self._requests.append((fingerprints, bins))
        self.rows += len(fingerprints)

    def take(self) -> tuple[list[bytes], Integers] | None:
        requests, self._requests, self.rows = self._requests, [], 0
        if not requests:
            return None
        return list(chain.from_iterable(names for names, _ in requests)), np.concatenate([bins for _, bins in requests])


class DriftMonitor:
    """What a gate tells of its visits, and what the operator reads of them. ``clock`` gives seconds since the epoch.

    Rows of exempt callers and of callers under suspicion stay out of the watch: what the others send is honest, or a
    theft spread so thinly that it looks like drift. ``bend``, where there is one, chooses g from all but exempt rows.
    """

    def __init__(
        self, model: str, drift: DriftDetector, clock: Callable[[], float], bend: AdaptiveG | None = None
    ) -> None:
        self._model = model
        self._drift = drift
        self._clock = clock
        self._bend = bend
        self._honest, self._all = _PendingRows(), _PendingRows()
        self._drifted = False
        self._counted: Integers = np.zeros(drift.shape, np.int64)

    @property
    def g(self) -> float | None:
        """The g in force, where it is chosen here."""
        return self._bend.g if self._bend else None

    def in_force(self, tariff: Tariff) -> Tariff:
        """The tariff for the next request: this one, or the same at the g that is chosen here."""
        return self._bend.tariff if self._bend else tariff

    def saw(self, caller: Caller, fingerprints: Sequence[bytes], assessment: Assessment, work: Work) -> None:
        """Note a request's rows; from time to time they are counted, and the evidence is looked at."""
        if caller.exempt:
            return
        if self._bend:
            self._all.add(fingerprints, assessment.bins)
            if self._all.rows >= LOOK and (rows := self._all.take()):
                self._bend.add(*rows, self._clock())
        if not work.suspected:
            self._honest.add(fingerprints, assessment.bins)
            if self._honest.rows >= LOOK:
                self._look()

    def _count(self) -> None:
        if rows := self._honest.take():
            self._counted += self._drift.add(*rows, self._clock())

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
