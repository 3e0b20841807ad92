"""One day of sample traffic in a ledger: honest callers, one thief, and leaks that slowly drift. Made from a seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.gateway.admin.dashboard.app import dashboard_application
from modeltoll.gateway.admin.dashboard.models import DashboardModel
from modeltoll.gateway.core.drift_monitor import DriftMonitor
from modeltoll.pricing.calibration import NewAccountToll
from modeltoll.pricing.conformal_tariff import ConformalTariff
from modeltoll.pricing.drift import DriftDetector
from modeltoll.pricing.fit import CalibrationTerms, RowCosts, fit_calibration
from modeltoll.pricing.tariff import new_account_share
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
    """Leaks of honest rows, (rows, measures); ``drift``, one number or one per row, raises them by that share."""
    entropy = rng.beta(0.6, 4.0, rows) * (1.0 + np.asarray(drift))
    novelty = rng.lognormal(-0.2, 0.35, rows) * (1.0 + 0.5 * np.asarray(drift))
    return Leaks(MEASURES, np.column_stack([np.minimum(entropy, 1.0), novelty]))


def stolen_leaks(rows: int, rng: np.random.Generator) -> Leaks:
    """Leaks of rows from another distribution than the honest ones, (rows, measures)."""
    return Leaks(MEASURES, np.column_stack([rng.beta(2.5, 2.0, rows), rng.lognormal(0.6, 0.3, rows)]))


def build_tariff(seed: int = 0) -> ConformalTariff:
    """A tariff from 2,000 honest rows, 400 of them held out, with a unit of 10 ms."""
    leaks = honest_leaks(_HONEST_ROWS, np.random.default_rng(seed))
    costs, terms = RowCosts(unit_seconds=UNIT), CalibrationTerms(new_account_toll=NewAccountToll(anonymous_units=50.0))
    return ConformalTariff(fit_calibration(MODEL, leaks, costs, terms))


@dataclass(frozen=True, slots=True)
class CallerPlan:
    """The day of one caller: ``requests`` requests of ``rows`` rows each, between two ``hours`` of the day.

    ``drift`` is the share by which the leaks have risen at the end of the day.
    """

    caller: Caller
    requests: int
    hours: tuple[float, float] = (0.0, 24.0)
    rows: int = 1
    drift: float = 0.0
    stolen: bool = False


def sample_callers(share: float = 1.0) -> Sequence[CallerPlan]:
    """Fourteen callers; ``share`` scales the number of their requests."""
    honest = [
        CallerPlan(Caller(f"key:{name}"), round(share * 60 * (12 - place)), (6.0, 20.0 + place / 4), 1 + place % 3, 0.2)
        for place, name in enumerate(_NAMES)
    ]
    others = [
        CallerPlan(Caller("net:198.51.100.7"), round(share * 40), (9.0, 11.0)),
        CallerPlan(Caller("key:nightly-job", exempt=True), round(share * 48), rows=8),
        CallerPlan(Caller("key:partner", discount=0.5), round(share * 200), (2.0, 23.0)),
        CallerPlan(THIEF, round(share * 700), (13.5, 19.0), stolen=True),
    ]
    return [*honest, *others]


@dataclass(frozen=True, slots=True)
class SampleTraffic:
    """An open ledger, a tariff, a fake clock and a drift monitor, to which requests are charged."""

    ledger: Ledger
    tariff: ConformalTariff
    clock: FakeClock
    monitor: DriftMonitor
    mode: str = "enforce"

    @classmethod
    def start(cls, ledger: Ledger, tariff: ConformalTariff, now: float) -> SampleTraffic:
        """Traffic whose clock is at ``now``, in seconds since the epoch."""
        clock = FakeClock(now)
        return cls(ledger, tariff, clock, DriftMonitor(MODEL, DriftDetector(tariff), clock))

    @property
    def dashboard(self) -> Starlette:
        """The dashboard of this ledger and tariff."""
        return dashboard_application(
            self.ledger, [DashboardModel(MODEL, self.mode, self.tariff, self.monitor)], self.clock
        )


async def simulate_day(traffic: SampleTraffic, plans: Sequence[CallerPlan], seed: int = 0) -> None:
    """Charge the requests of all plans in order of time, within the 24 hours before the clock's time."""
    rng, end = np.random.default_rng(seed), traffic.clock.now
    requests_at = [
        (end - _DAY + 3600.0 * hour, plan)
        for plan in plans
        for hour in rng.triangular(plan.hours[0], sum(plan.hours) / 2, plan.hours[1], plan.requests)
    ]
    for at, plan in sorted(requests_at, key=lambda request: request[0]):
        traffic.clock.now = at
        await _charge_request(traffic, plan, (at - end) / _DAY + 1.0, rng)
    traffic.clock.now = end


async def _charge_request(
    traffic: SampleTraffic, plan: CallerPlan, share_of_day: float, rng: np.random.Generator
) -> None:
    """Charge and log one request as a gate does, without a puzzle; ``share_of_day`` is in 0..1."""
    tariff, at = traffic.tariff, traffic.clock()
    leaks = stolen_leaks(plan.rows, rng) if plan.stolen else honest_leaks(plan.rows, rng, plan.drift * share_of_day**3)
    assessment = tariff.assess(leaks, rng)
    fingerprints = tuple(rng.bytes(8) for _ in range(plan.rows))
    charge = Charge(
        MODEL,
        plan.rows,
        tuple(leaks.values.sum(axis=0).tolist()),
        tuple(assessment.cells.tolist()),
        fingerprints,
        tariff.cell_count,
        tariff.identity,
        at,
    )
    account = await traffic.ledger.charge(plan.caller, charge)
    verdict = tariff.verdict(account, traffic.ledger.logged_as(plan.caller))
    work = tariff.work(assessment, account, verdict)
    admission = tariff.new_account_seconds(plan.caller) * new_account_share(plan.rows, account.rows - plan.rows)
    work = replace(work, seconds=work.seconds + admission, new_account_seconds=admission)
    traffic.monitor.record(plan.caller, fingerprints, assessment)
    mode = "exempt" if plan.caller.exempt else "shadow" if traffic.mode == "shadow" else "sealed"
    lines, rarest = tuple(map(tuple, leaks.values.tolist())), tuple(assessment.rarest.tolist())
    entry = LogEntry(at, MODEL, plan.rows, MEASURES, lines, rarest, work, mode)
    await traffic.ledger.bill(plan.caller, entry, updates=verdict.updates)
