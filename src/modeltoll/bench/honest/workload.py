"""The workloads of honest callers: which rows, in requests of which size, and when; and what they pay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.bench.honest.distribution_shifts import KINDS, ORDINARY
from modeltoll.ledger import account_math
from modeltoll.pricing.tariff import new_account_share
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
    """Requests of ``rows`` rows in bursts of ``burst`` requests with ``pause`` seconds between bursts."""

    rows: int = 1
    burst: int = 1
    pause: float = 1.0


@dataclass(frozen=True, slots=True)
class Workload:
    """Rows of one kind (a name in ``KINDS``), sent in a pattern.

    ``drawn``: the number of rows to draw from the calibration's distribution of leaks; 0: the recorded rows.
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
    """Price the rows (rows, measures) of one new caller request by request, as a gateway does: assess, charge, work.

    Each request pays its share of the new-account toll.
    """
    assessment = tariff.assess(leaks, rng)
    account: Account | None = None
    work, sizes, surcharges = [], [], []
    for number, start in enumerate(range(0, len(leaks.values), pattern.rows)):
        part = slice(start, start + pattern.rows)
        bins = tuple(map(tuple, assessment.bins[part].tolist()))
        charge = Charge(
            model="bench",
            rows=len(bins),
            leaks=tuple(leaks.values[part].sum(axis=0).tolist()),
            bins=bins,
            fingerprints=tuple(row.to_bytes(8, "big") for row in range(start, start + len(bins))),
            shape=tariff.shape,
            tariff=tariff.identity,
            at=_DAY + number // pattern.burst * pattern.pause,
        )
        account, _ = account_math.charge(account, caller, charge, (), account_math.HALF_LIFE)
        priced = tariff.work(_part(assessment, part), account)
        new_account = tariff.new_account_seconds(caller) * new_account_share(len(bins), start)
        work.append(priced.seconds + new_account)
        sizes.append(float(priced.rows))
        surcharges.append(priced.surcharge)
    return PaidWorkload(np.array(work), np.array(sizes), np.array(surcharges), times)


def _part(assessment: Assessment, part: slice) -> Assessment:
    return Assessment(assessment.factors[part], assessment.rarest[part], assessment.bins[part])
