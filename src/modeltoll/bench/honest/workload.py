"""How honest callers ask: which rows, in requests of which size, and when; and what they pay for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.bench.honest.distribution_shifts import KINDS, ORDINARY
from modeltoll.ledger import account_math
from modeltoll.records import Assessment, Charge

if TYPE_CHECKING:
    from modeltoll.pricing.tariff import Tariff
    from modeltoll.records import Account, Caller, Floats, Leaks
    from modeltoll.simulation.engine import ScenarioResult
    from modeltoll.simulation.scenarios import Times

__all__ = ["WORKLOADS", "PaidWorkload", "RequestPattern", "Workload", "pay_for"]

_DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class RequestPattern:
    """Requests of ``rows`` rows, ``burst`` of them at once and then none for ``pause`` seconds."""

    rows: int = 1
    burst: int = 1
    pause: float = 1.0


@dataclass(frozen=True, slots=True)
class Workload:
    """Rows of one kind (a name of ``kinds.KINDS``), asked for in a pattern.

    ``drawn``: so many rows, drawn from the calibration's own distribution of leaks; 0: the rows that there are.
    """

    name: str
    kind: str
    pattern: RequestPattern = RequestPattern()
    drawn: int = 0


WORKLOADS = {
    workload.name: workload
    for workload in (
        *(Workload(kind, kind) for kind in KINDS),
        Workload("bursts of 500", ORDINARY, RequestPattern(burst=500, pause=7 * _DAY)),
        Workload("one row a day", ORDINARY, RequestPattern(pause=_DAY)),
        Workload("batches of 1000", ORDINARY, RequestPattern(rows=1000)),
        Workload("100,000 rows", ORDINARY, drawn=100_000),
    )
}


@dataclass(frozen=True, slots=True, eq=False)
class PaidWorkload:
    """What an honest caller paid: reference seconds of work for each request, its rows, the surcharge, all (requests,)."""

    work: Floats
    rows: Floats
    surcharges: Floats
    times: Times

    @classmethod
    def at_once(cls, outcome: ScenarioResult) -> PaidWorkload:
        """Rows that were charged all at once, one a request; a surcharge is said, but not which."""
        surcharges = np.where(outcome.charges.suspected, np.inf, 1.0)
        return cls(outcome.charges.seconds, np.ones(len(surcharges)), surcharges, outcome.times)

    @property
    def waits(self) -> Floats:
        """Seconds that each request took: its rows' undefended time, the gateway's own, the work."""
        return self.rows * (self.times.undefended + self.times.gate) + self.work

    @property
    def ratio(self) -> float:
        """All seconds over the undefended ones."""
        return float(self.waits.sum() / (self.rows.sum() * self.times.undefended))

    @property
    def suspected(self) -> float:
        """The share of requests that were made under suspicion."""
        return float((self.surcharges > 1.0).mean())


def pay_for(
    tariff: Tariff, leaks: Leaks, pattern: RequestPattern, caller: Caller, times: Times, rng: np.random.Generator
) -> PaidWorkload:
    """Send the rows (rows, measures) of one caller through the tariff as a gateway does: assess, charge, work."""
    assessment = tariff.assess(leaks, rng)
    account: Account | None = None
    work, sizes, surcharges = [], [], []
    for number, start in enumerate(range(0, len(leaks.values), pattern.rows)):
        part = slice(start, start + pattern.rows)
        bins = tuple(map(tuple, assessment.bins[part].tolist()))
        entry = Charge(
            model="bench",
            rows=len(bins),
            leaks=tuple(leaks.values[part].sum(axis=0).tolist()),
            bins=bins,
            fingerprints=tuple(row.to_bytes(8, "big") for row in range(start, start + len(bins))),
            shape=tariff.shape,
            tariff=tariff.identity,
            at=_DAY + number // pattern.burst * pattern.pause,
        )
        account, _ = account_math.charge(account, caller, entry, (), account_math.HALF_LIFE)
        priced = tariff.work(_part(assessment, part), account)
        work.append(priced.seconds)
        sizes.append(float(priced.rows))
        surcharges.append(priced.surcharge)
    return PaidWorkload(np.array(work), np.array(sizes), np.array(surcharges), times)


def _part(assessment: Assessment, part: slice) -> Assessment:
    return Assessment(assessment.factors[part], assessment.rarest[part], assessment.bins[part])
