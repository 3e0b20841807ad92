"""Run one scenario under one tariff: what is paid, which rows are bought, and when accounts become suspected."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.pricing.grouped import grouped_rank
from modeltoll.simulation.settlement import settled_work

if TYPE_CHECKING:
    from modeltoll.records import Bools, Caller, Floats
    from modeltoll.simulation.batch_tariffs import BatchCharges, BatchTariff
    from modeltoll.simulation.scenarios import Scenario, Times
    from modeltoll.simulation.traffic import Traffic

__all__ = ["ScenarioResult", "Solver", "run_scenario"]

Solver = Callable[["BatchCharges"], "Floats"]  # the seconds (rows,) that the solver takes for each toll


@dataclass(frozen=True, slots=True, eq=False)
class ScenarioResult:
    """The result of a scenario, by row (rows,): ``work`` in seconds of the solver, and whether the row is ``bought``.

    Rows that are ``paid`` cost the undefended time, the gateway's time, and the work of ``admission`` that the account owes
    for tolls that it threw away; those that are also bought cost their work.
    """

    traffic: Traffic
    charges: BatchCharges
    work: Floats
    admission: Floats
    bought: Bools
    paid: Bools
    times: Times

    @property
    def waits(self) -> Floats:
        """Seconds of each row that is bought and paid."""
        waits: Floats = self.times.undefended + self.times.gate + (self.work + self.admission)[self.bought & self.paid]
        return waits

    @property
    def queries(self) -> int:
        """Number of wanted rows that are bought."""
        return int((self.bought & self.traffic.wanted).sum())

    @property
    def seconds_without(self) -> float:
        """Undefended time of the wanted rows that are bought."""
        return self.queries * self.times.undefended

    @property
    def seconds_with(self) -> float:
        """Time of all rows that are paid, with the work of those that are bought, and of admission."""
        return float(self.cumulative_seconds()[-1]) if len(self.work) else 0.0

    def cumulative_seconds(self) -> Floats:
        """``seconds_with`` up to and including each row, (rows,)."""
        base = self.times.undefended + self.times.gate + self.admission
        cumulative: Floats = np.cumsum(np.where(self.paid, base + np.where(self.bought, self.work, 0.0), 0.0))
        return cumulative

    @property
    def ratio(self) -> float | None:
        """Seconds with the toll over seconds without, per wanted row; None if nothing is bought."""
        return self.seconds_with / self.seconds_without if self.queries else None

    @property
    def accounts(self) -> int:
        """Number of accounts."""
        return int(self.traffic.accounts.max()) + 1

    def first_alarms(self) -> Floats:
        """For each account that was ever suspected, the number of its row at which that began, from 1."""
        first = np.full(self.accounts, math.inf)
        suspected, accounts = self.charges.suspected, self.traffic.accounts
        np.minimum.at(first, accounts[suspected], (grouped_rank(accounts) + 1.0)[suspected])
        alarms: Floats = first[np.isfinite(first)]
        return alarms


def _reference_seconds(charges: BatchCharges) -> Floats:
    return charges.seconds


def run_scenario(
    scenario: Scenario,
    tariff: BatchTariff,
    caller: Caller,
    times: Times,
    rng: np.random.Generator,
    solver: Solver = _reference_seconds,
) -> ScenarioResult:
    """Charge all rows of a scenario, and buy those that it selects by their price in reference seconds.

    ``caller``: attributes of all accounts. ``times``: seconds per row without toll. ``solver``: seconds of the solver
    for the charges; by default those of one reference core. Where the tariff settles, tolls that are thrown away count
    against the credit of their account.
    """
    charges, terms = tariff.charge(scenario.traffic, caller, rng), tariff.settlement(caller)
    work, admission = solver(charges), np.zeros(len(charges.seconds))
    bought = scenario.buys(charges.seconds)
    if terms is not None and not bought.all():
        settled = settled_work(charges.seconds, scenario.traffic.accounts, bought, terms)
        admission = settled.admission
        work = work * np.divide(settled.asked, charges.seconds, where=charges.seconds > 0.0, out=np.zeros(len(work)))
    paid = np.ones(len(work), np.bool_) if scenario.pays is None else scenario.pays
    return ScenarioResult(scenario.traffic, charges, work, admission, bought, paid, times)
