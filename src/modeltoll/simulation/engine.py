"""One scene played under one toll: what was paid, what was bought for it, and who came under suspicion."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.pricing.grouped import grouped_rank

if TYPE_CHECKING:
    from modeltoll.records import Bools, Caller, Floats
    from modeltoll.simulation.batch_tariffs import BatchCharges, BatchTariff
    from modeltoll.simulation.scenarios import Scenario, Times
    from modeltoll.simulation.traffic import Traffic

__all__ = ["ScenarioResult", "Solver", "run_scenario"]

Solver = Callable[["BatchCharges"], "Floats"]  # the seconds (rows,) that whoever solves takes for each toll


@dataclass(frozen=True, slots=True, eq=False)
class ScenarioResult:
    """What each row came to, (rows,): ``work`` in seconds of whoever solves, and whether it was ``bought``.

    Everything that is ``paid`` for costs the undefended time and the gateway's own; what is bought, its work too.
    """

    traffic: Traffic
    charged: BatchCharges
    work: Floats
    bought: Bools
    paid: Bools
    times: Times

    @property
    def waits(self) -> Floats:
        """The seconds of each row that was bought and paid for."""
        waits: Floats = self.times.undefended + self.times.gate + self.work[self.bought & self.paid]
        return waits

    @property
    def queries(self) -> int:
        """The wanted rows that were bought."""
        return int((self.bought & self.traffic.wanted).sum())

    @property
    def seconds_without(self) -> float:
        """The undefended time of what was wanted and bought."""
        return self.queries * self.times.undefended

    @property
    def seconds_with(self) -> float:
        """The time of everything asked, and the work of what was bought."""
        return float(self.running_seconds()[-1]) if len(self.work) else 0.0

    def running_seconds(self) -> Floats:
        """``seconds_with`` up to and with each row, (rows,)."""
        own = self.times.undefended + self.times.gate
        running: Floats = np.cumsum(np.where(self.paid, own + np.where(self.bought, self.work, 0.0), 0.0))
        return running

    @property
    def ratio(self) -> float | None:
        """Seconds with the toll over seconds without, per wanted row; None where nothing was bought."""
        return self.seconds_with / self.seconds_without if self.queries else None

    @property
    def accounts(self) -> int:
        """How many accounts asked."""
        return int(self.traffic.accounts.max()) + 1

    def first_alarms(self) -> Floats:
        """For each account that was ever under suspicion, the row at which that began, counted from 1."""
        first = np.full(self.accounts, math.inf)
        suspected, accounts = self.charged.suspected, self.traffic.accounts
        np.minimum.at(first, accounts[suspected], (grouped_rank(accounts) + 1.0)[suspected])
        alarms: Floats = first[np.isfinite(first)]
        return alarms


def _reference(charged: BatchCharges) -> Floats:
    return charged.seconds


def run_scenario(
    scene: Scenario,
    toll: BatchTariff,
    caller: Caller,
    times: Times,
    rng: np.random.Generator,
    solver: Solver = _reference,
) -> ScenarioResult:
    """Charge every row of a scene, and buy what the scene buys at the reference seconds that are asked for."""
    charged = toll.charge(scene.traffic, caller, rng)
    paid = np.ones(len(charged.seconds), np.bool_) if scene.pays is None else scene.pays
    return ScenarioResult(scene.traffic, charged, solver(charged), scene.buys(charged.seconds), paid, times)
