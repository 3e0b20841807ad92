"""A day that a gateway may have had, written into a ledger: honest callers, one thief, and traffic that slowly changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.gateway.admin.dashboard.app import dashboard_application
from modeltoll.gateway.admin.dashboard.models import DashboardModel
from modeltoll.gateway.core.drift_monitor import DriftMonitor
from modeltoll.pricing.calibration import NewAccountToll
from modeltoll.pricing.conformal import ConformalTariff
from modeltoll.pricing.drift import DriftDetector
from modeltoll.pricing.fit import CalibrationTerms, RowCosts, fit_calibration
from modeltoll.records import Caller, Charge, Leaks, LogEntry
from modeltoll.testing.clock import FakeClock

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from modeltoll.ledger.ledger import Ledger
    from modeltoll.records import Floats

__all__ = [
    "MEASURES",
    "MODEL",
    "THIEF",
    "CallerPlan",
    "SampleTraffic",
    "build_tariff",
    "sample_callers",
    "simulate_day",
]

MODEL, MEASURES = "digits", ("entropy", "novelty")
THIEF = Caller("key:mallory")
UNIT = 0.01  # reference seconds
_DAY = 86_400.0
_HONEST_ROWS = 2_000
_NAMES = ("alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy")


def honest_leaks(rows: int, rng: np.random.Generator, drift: float | Floats = 0.0) -> Leaks:
    """Leaks of honest rows, (rows, measures); ``drift``, one number or one a row, lifts them."""
    entropy = rng.beta(0.6, 4.0, rows) * (1.0 + np.asarray(drift))
    novelty = rng.lognormal(-0.2, 0.35, rows) * (1.0 + 0.5 * np.asarray(drift))
    return Leaks(MEASURES, np.column_stack([np.minimum(entropy, 1.0), novelty]))


def stolen_leaks(rows: int, rng: np.random.Generator) -> Leaks:
    """Leaks of rows from another world than the model's."""
    return Leaks(MEASURES, np.column_stack([rng.beta(2.5, 2.0, rows), rng.lognormal(0.6, 0.3, rows)]))


def build_tariff(seed: int = 0) -> ConformalTariff:
    """A tariff of 1600 honest rows, and 400 kept back, with a unit of 10 ms."""
    leaks = honest_leaks(_HONEST_ROWS, np.random.default_rng(seed))
    costs, terms = RowCosts(unit_seconds=UNIT), CalibrationTerms(new_account_toll=NewAccountToll(anonymous_units=50.0))
    return ConformalTariff(fit_calibration(MODEL, leaks, costs, terms))


@dataclass(frozen=True, slots=True)
class CallerPlan:
    """What one caller does: so many ``requests`` from hour to hour of the day, of ``rows`` rows each.

    ``lift`` is by how much his leaks have risen at the day's end.
    """

    caller: Caller
    requests: int
    hours: tuple[float, float] = (0.0, 24.0)
    rows: int = 1
    lift: float = 0.0
    stolen: bool = False


def sample_callers(share: float = 1.0) -> Sequence[CallerPlan]:
    """Who asks on that day; ``share`` is how many of their requests they send."""
    honest = [
        CallerPlan(Caller(f"key:{name}"), round(share * 60 * (12 - place)), (6.0, 20.0 + place / 4), 1 + place % 3, 0.2)
        for place, name in enumerate(_NAMES)
    ]
    others = [
        CallerPlan(Caller("net:198.51.100.0/24"), round(share * 40), (9.0, 11.0)),
        CallerPlan(Caller("key:nightly-job", exempt=True), round(share * 48), rows=8),
        CallerPlan(Caller("key:partner", discount=0.5), round(share * 200), (2.0, 23.0)),
        CallerPlan(THIEF, round(share * 700), (13.5, 19.0), stolen=True),
    ]
    return [*honest, *others]


@dataclass(frozen=True, slots=True)
class SampleTraffic:
    """Where the day is lived: a ledger that is open, a tariff, a clock, and what watches the traffic."""

    ledger: Ledger
    tariff: ConformalTariff
    clock: FakeClock
    monitor: DriftMonitor
    mode: str = "enforce"

    @classmethod
    def of(cls, ledger: Ledger, tariff: ConformalTariff, now: float) -> SampleTraffic:
        """A town whose clock shows ``now``, in seconds since the epoch."""
        clock = FakeClock(now)
        return cls(ledger, tariff, clock, DriftMonitor(MODEL, DriftDetector(tariff), clock))

    @property
    def dashboard(self) -> Starlette:
        """Its dashboard."""
        return dashboard_application(
            self.ledger, [DashboardModel(MODEL, self.mode, self.tariff, self.monitor)], self.clock
        )


async def simulate_day(town: SampleTraffic, plans: Sequence[CallerPlan], seed: int = 0) -> None:
    """Let everybody ask, one request after the other, in the day that ends now."""
    rng, end = np.random.default_rng(seed), town.clock.now
    visits = [
        (end - _DAY + 3600.0 * hour, plan)
        for plan in plans
        for hour in rng.triangular(plan.hours[0], sum(plan.hours) / 2, plan.hours[1], plan.requests)
    ]
    for at, plan in sorted(visits, key=lambda visit: visit[0]):
        town.clock.now = at
        await _request(town, plan, (at - end) / _DAY + 1.0, rng)
    town.clock.now = end


async def _request(town: SampleTraffic, plan: CallerPlan, past: float, rng: np.random.Generator) -> None:
    """One request, as a gate deals with it, without a puzzle; ``past`` is the share of the day that is over."""
    tariff, at = town.tariff, town.clock()
    leaks = stolen_leaks(plan.rows, rng) if plan.stolen else honest_leaks(plan.rows, rng, plan.lift * past**3)
    assessment = tariff.assess(leaks, rng)
    fingerprints = tuple(rng.bytes(8) for _ in range(plan.rows))
    entry = Charge(
        MODEL,
        plan.rows,
        tuple(leaks.values.sum(axis=0).tolist()),
        tuple(map(tuple, assessment.bins.tolist())),
        fingerprints,
        tariff.shape,
        tariff.identity,
        at,
    )
    work = tariff.work(assessment, await town.ledger.charge(plan.caller, entry))
    town.monitor.record(plan.caller, fingerprints, assessment, work)
    mode = "exempt" if plan.caller.exempt else "shadow" if town.mode == "shadow" else "sealed"
    lines, rarest = tuple(map(tuple, leaks.values.tolist())), tuple(assessment.rarest.tolist())
    await town.ledger.bill(plan.caller, LogEntry(at, MODEL, plan.rows, MEASURES, lines, rarest, work, mode))
