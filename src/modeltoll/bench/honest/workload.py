"""The workloads of honest callers: which rows, in requests of which size, and when; and what they pay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.bench.honest.distribution_shifts import DECLARED, KINDS, ORDINARY, UNDECLARED
from modeltoll.bench.honest.file_callers import DECLARED_CALLERS, UNDECLARED_CALLERS
from modeltoll.evidence_records import EVIDENCE_SECONDS
from modeltoll.ledger import account_math
from modeltoll.pricing.leak_samples import clean_values, select_measures
from modeltoll.pricing.tariff import new_account_share
from modeltoll.records import Assessment, Charge, Leaks
from modeltoll.simulation.scenarios import mixed_rows, switching_rows
from modeltoll.simulation.traffic import draw_rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modeltoll.pricing.tariff import Tariff
    from modeltoll.records import Account, Caller, Floats
    from modeltoll.simulation.engine import ScenarioResult
    from modeltoll.simulation.scenarios import Times
    from modeltoll.simulation.traffic import Rows

__all__ = ["CLASSES", "WORKLOADS", "PaidWorkload", "RequestPattern", "Workload", "pay_for"]

CLASSES = 10  # of which a caller may send one alone
_DAY = 86_400.0
_LONG, _MIXED = 100_000, 5_000
_MIXTURE, _SWITCHING = "mixture of kinds", "switching kinds"
_KINDS = (*KINDS, *DECLARED_CALLERS, *UNDECLARED_CALLERS)


@dataclass(frozen=True, slots=True)
class RequestPattern:
    """Requests of ``rows`` rows in bursts of ``burst`` requests with ``pause`` seconds between bursts."""

    rows: int = 1
    burst: int = 1
    pause: float = 1.0


@dataclass(frozen=True, slots=True)
class Workload:
    """Rows of one kind, or of all declared kinds (``mixture of kinds``, ``switching kinds``).

    ``kind``: a name in ``KINDS``, or that of a caller who sends files. ``predicted``: the class that the caller sends alone. ``drawn``: the number of rows to draw from the recorded ones, with
    replacement; 0: each recorded row once.
    """

    name: str
    kind: str
    pattern: RequestPattern = RequestPattern()
    drawn: int = 0
    predicted: int | None = None

    @property
    def declared(self) -> bool:
        """Whether the operator promises this caller its price: its rows are of declared kinds, or of one class."""
        return self.kind not in UNDECLARED and self.kind not in UNDECLARED_CALLERS

    @property
    def shown(self) -> bool:
        """Whether charts show it: a recorded kind in requests of one row; tables show all."""
        return self.pattern.rows == 1 and not self.drawn and self.predicted is None

    def rows(self, kinds: Mapping[str, Rows], rng: np.random.Generator) -> Rows | None:
        """Its rows, from recorded ``kinds`` of honest rows with classes; None where there are none of its kind or class."""
        if self.kind in (_MIXTURE, _SWITCHING):
            declared = [kinds[name] for name in (ORDINARY, *DECLARED, *DECLARED_CALLERS) if name in kinds]
            return (mixed_rows if self.kind == _MIXTURE else switching_rows)(declared, self.drawn, rng)
        rows = kinds.get(self.kind)
        if rows is not None and self.predicted is not None and rows.classes is not None:
            rows = rows[rows.classes == self.predicted]
        if rows is None or not len(rows):
            return None
        return draw_rows(rows, self.drawn, rng) if self.drawn else rows


WORKLOADS = {
    workload.name: workload
    for workload in (
        *(Workload(kind, kind) for kind in _KINDS),
        *(Workload(f"class {number}", ORDINARY, predicted=number) for number in range(CLASSES)),
        Workload(_MIXTURE, _MIXTURE, drawn=_MIXED),
        Workload(_SWITCHING, _SWITCHING, drawn=_MIXED),
        Workload("bursts of 500", ORDINARY, RequestPattern(burst=500, pause=7 * _DAY)),
        Workload("one row a day", ORDINARY, RequestPattern(pause=_DAY)),
        Workload("batches of 1000", ORDINARY, RequestPattern(rows=1000)),
        Workload("100,000 rows", ORDINARY, drawn=_LONG),
        *(Workload(f"100,000 rows, {kind}", kind, drawn=_LONG) for kind in _KINDS if kind != ORDINARY),
        Workload(f"100,000 rows, {_SWITCHING}", _SWITCHING, drawn=_LONG),
    )
}


@dataclass(frozen=True, slots=True, eq=False)
class PaidWorkload:
    """What an honest caller paid: work in reference seconds, rows and surcharge of each request, all (requests,)."""

    work: Floats
    rows: Floats
    surcharges: Floats
    times: Times

    @classmethod
    def at_once(cls, outcome: ScenarioResult) -> PaidWorkload:
        """The result of a scenario with one row per request; its surcharges are 1, or infinite under suspicion."""
        surcharges = np.where(outcome.charges.suspected, np.inf, 1.0)
        return cls(outcome.charges.seconds, np.ones(len(surcharges)), surcharges, outcome.times)

    @property
    def waits(self) -> Floats:
        """Seconds (requests,) of each request: its rows' undefended time, the gateway's time, the work."""
        return self.rows * (self.times.undefended + self.times.gate) + self.work

    @property
    def ratio(self) -> float:
        """All seconds divided by the undefended ones."""
        return float(self.waits.sum() / (self.rows.sum() * self.times.undefended))

    @property
    def suspected(self) -> float:
        """The share of requests under suspicion, in 0..1."""
        return float((self.surcharges > 1.0).mean())


def pay_for(
    tariff: Tariff, leaks: Leaks, pattern: RequestPattern, caller: Caller, times: Times, rng: np.random.Generator
) -> PaidWorkload:
    """Price the rows of one new caller request by request, as a gateway does: assess, charge, verdict, work, bill.

    ``leaks``: by every recorded measure. Each request pays its share of the new-account toll.
    """
    priced_leaks, clean = select_measures(leaks, tariff.measures), clean_values(leaks, tariff.measures)
    assessment = tariff.assess(priced_leaks, rng)
    account: Account | None = None
    work, sizes, surcharges = [], [], []
    for number, start in enumerate(range(0, len(leaks.values), pattern.rows)):
        part = slice(start, start + pattern.rows)
        requested = _part(assessment, part)
        charge = _charge(tariff, requested, start, _DAY + number // pattern.burst * pattern.pause)
        account, _ = account_math.charge(account, caller, charge, (), EVIDENCE_SECONDS)
        verdict = tariff.verdict(account)
        priced = tariff.work(requested, account, verdict, None if clean is None else clean[part])
        for update in verdict.updates:
            account = account_math.updated(account, update)
        work.append(priced.seconds + tariff.new_account_seconds(caller) * new_account_share(charge.rows, start))
        sizes.append(float(priced.rows))
        surcharges.append(priced.surcharge)
    return PaidWorkload(np.array(work), np.array(sizes), np.array(surcharges), times)


def _charge(tariff: Tariff, assessment: Assessment, start: int, at: float) -> Charge:
    """The charge of rows, of which ``start`` were sent before."""
    rows = len(assessment.factors)
    return Charge(
        model="bench",
        rows=rows,
        leaks=tuple(assessment.leaks.values.sum(axis=0).tolist()),
        cells=tuple(assessment.cells.tolist()) if tariff.cell_count else (),
        fingerprints=tuple(row.to_bytes(8, "big") for row in range(start, start + rows)),
        cell_count=tariff.cell_count,
        tariff=tariff.identity,
        at=at,
    )


def _part(assessment: Assessment, part: slice) -> Assessment:
    leaks, classes = assessment.leaks, assessment.leaks.classes
    rows = Leaks(leaks.measures, leaks.values[part], None if classes is None else classes[part])
    return Assessment(assessment.factors[part], assessment.rarest[part], assessment.cells[part], rows)
