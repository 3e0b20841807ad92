"""Measures an answer, and turns what was measured into a charge and a line of the log."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.errors import AnswerError
from modeltoll.gateway.core.request import side_by_side
from modeltoll.leak.measure import clean_measure
from modeltoll.record_init import quick_init
from modeltoll.records import Charge, LogEntry

if TYPE_CHECKING:
    from modeltoll.gateway.core.early_measurement import EarlyLeaks
    from modeltoll.gateway.core.request import ServedModel
    from modeltoll.pricing.tariff import Tariff
    from modeltoll.records import Assessment, Evidence, Floats, Leaks, Work

__all__ = ["MeasuredAnswer"]


@quick_init
@dataclass(frozen=True, slots=True, eq=False)
class MeasuredAnswer:
    """What one answer leaks, and how the tariff assesses it.

    ``early``: leaks that were measured before the answer came. ``clean``: those by the measures that were fitted without
    kinds, of shape (rows, clean measures); None until they are measured, and where there are no such measures.
    """

    evidence: Evidence
    early: EarlyLeaks
    leaks: Leaks
    assessment: Assessment
    clean: Leaks | None = None

    def with_clean(self, model: ServedModel) -> MeasuredAnswer:
        """The same with ``clean``.

        Raises:
            AnswerError, RequestError: it cannot be measured; nothing of the answer may be released.
        """
        clean = model.clean_leaks(self.evidence, self.early)
        if clean is None:
            return self
        if not (clean.values.min(initial=0.0) >= 0.0 and clean.values.max(initial=0.0) < np.inf):
            raise AnswerError(
                "the leak of an answer is negative or not finite", private=f"by {', '.join(clean.measures)}"
            )
        return replace(self, clean=clean)

    def clean_values(self, model: ServedModel) -> Floats | None:
        """The leaks (rows, measures) with those of ``clean`` in the place of the measures that they are variants of."""
        if self.clean is None:
            return None
        values = self.leaks.values.copy()
        has_variant = [clean_measure(measure) is not measure for measure in model.measures]
        values[:, has_variant] = self.clean.values
        return values

    def charge(self, model: str, tariff: Tariff, fingerprints: tuple[bytes, ...], at: float) -> Charge:
        """What the request adds to its caller's account. ``fingerprints``: one per row, keyed by the ledger."""
        values = self.leaks.values
        return Charge(
            model=model,
            rows=self.evidence.rows,
            leaks=tuple((values[0] if len(values) == 1 else values.sum(axis=0)).tolist()),
            cells=tuple(self.assessment.cells.tolist()) if tariff.cell_count else (),
            fingerprints=fingerprints,
            cell_count=tariff.cell_count,
            tariff=tariff.identity,
            at=at,
        )

    def log_entry(self, model: str, work: Work, mode: str, at: float, *, clean: bool = False) -> LogEntry:
        """The line of the log; with ``clean`` it has the clean leaks after the others."""
        leaks = side_by_side(self.leaks, self.clean) if clean and self.clean is not None else self.leaks
        return LogEntry(
            at=at,
            model=model,
            rows=work.rows,
            measures=leaks.measures,
            leaks=tuple(map(tuple, leaks.values.tolist())),
            rarest=tuple(self.assessment.rarest.tolist()),
            work=work,
            mode=mode,
            classes=() if leaks.classes is None else tuple(leaks.classes.tolist()),
        )
