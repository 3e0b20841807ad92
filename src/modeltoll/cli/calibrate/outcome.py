"""Rehearses a fitted tariff, and finds what it promises to whom."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from modeltoll.cli.terminal import stage
from modeltoll.pricing.kinds import CALLER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modeltoll.pricing.calibration import Calibration
    from modeltoll.pricing.fit import Fit
    from modeltoll.pricing.rehearsal import KindTrial
    from modeltoll.pricing.remedies import KindCost, Remedy, StrangerTrial

__all__ = ["PROMISE_ROWS", "CalibrationOutcome", "rehearsed"]

PROMISE_ROWS = 1000  # logged rows of a caller, below which nothing is promised to it


@dataclass(frozen=True, slots=True, eq=False)
class CalibrationOutcome:
    """A calibration and how it fares.

    ``trials``: of kinds and callers. ``remedies``: of those who are suspected. ``strangers``: under this calibration;
    ``without_callers``: before callers' logs counted for everyone, () where they do not. ``costs``: of families of kinds.
    ``proposed_rho``: the tolerance that would free suspects whom their own log does not; ``with_rho``: strangers under it.
    ``unpromised``: callers and how many rows they have, fewer than ``PROMISE_ROWS``. ``failures``: targets that are not met.
    ``small_classes``: predicted classes of too few rows for a kind of their own, and their rows; who sends one of them alone
    is promised nothing. ``asked_rho0``: the tax per row before it was raised.
    """

    calibration: Calibration
    trials: tuple[KindTrial, ...]
    remedies: tuple[Remedy, ...]
    strangers: tuple[StrangerTrial, ...]
    without_callers: tuple[StrangerTrial, ...]
    costs: tuple[KindCost, ...]
    proposed_rho: float | None
    with_rho: tuple[StrangerTrial, ...]
    unpromised: tuple[tuple[str, int], ...]
    small_classes: tuple[tuple[int, int], ...]
    failures: tuple[str, ...]
    asked_rho0: float

    @property
    def kinds(self) -> tuple[KindTrial, ...]:
        """The trials of kinds."""
        return tuple(trial for trial in self.trials if trial.report.role != CALLER)

    @property
    def callers(self) -> tuple[KindTrial, ...]:
        """The trials of callers."""
        return tuple(trial for trial in self.trials if trial.report.role == CALLER)


def rehearsed(
    fit: Fit, callers: Sequence[str] | None, *, for_all: bool, p99_wait: float | None, seed: int
) -> CalibrationOutcome:
    """Rehearse a fit, with a progress bar for each step. ``callers``: of all rows of all traffic. ``p99_wait``: the target."""
    from modeltoll.pricing import rehearsal, remedies  # noqa: PLC0415

    calibration = fit.calibration
    tried = fit.strangers or remedies.rarest_rows(fit.held_back[0], calibration.coordinates)
    without: tuple[StrangerTrial, ...] = ()
    if for_all:
        without = remedies.try_strangers(calibration, tried, seed)
        calibration = remedies.callers_for_all(calibration)
    with stage("Rehearsing kinds and callers") as progress:
        calibration, trials = rehearsal.raise_rho0(calibration, fit.held_back, seed, progress)
    calibration = replace(calibration, kind_reports=tuple(trial.report for trial in trials))
    suspects = [rows for rows, trial in zip(fit.held_back, trials, strict=True) if trial.suspected]
    with stage("Trying what would free suspects") as progress:
        found = remedies.remedies(calibration, suspects, fit.unmarked, seed, progress)
    strangers = remedies.try_strangers(calibration, tried, seed)
    with stage("Trying strangers without each kind") as progress:
        costs = remedies.kind_costs(calibration, tried, seed, progress)
    wider = max((each.rho for each in found if each.rho is not None and not each.own_log), default=None)
    with_rho: tuple[StrangerTrial, ...] = ()
    if wider is not None:
        terms = replace(calibration.suspicion, rho=wider)
        with_rho = remedies.try_strangers(replace(calibration, suspicion=terms), tried, seed)
    failures = [*_suspected_kinds(calibration, trials), *_missed_wait(calibration, p99_wait)]
    labels = {rows.name: rows.label or rows.name for rows in fit.held_back if rows.role == CALLER}
    unpromised = _unpromised(callers, labels)
    return CalibrationOutcome(
        calibration=calibration,
        trials=trials,
        remedies=found,
        strangers=strangers,
        without_callers=without,
        costs=costs,
        proposed_rho=wider,
        with_rho=with_rho,
        unpromised=unpromised,
        small_classes=fit.classes.small,
        failures=tuple(failures),
        asked_rho0=fit.calibration.suspicion.rho0,
    )


def _suspected_kinds(calibration: Calibration, trials: Sequence[KindTrial]) -> list[str]:
    """The promise to kinds that is not kept; callers are named, and may be marked."""
    return [
        f"{trial.report.name} would be suspected after {trial.report.suspected_at} rows even at rho0 "
        f"{calibration.suspicion.rho0:g}: give more rows of it, or a larger --rho"
        for trial in trials
        if trial.suspected and trial.report.role != CALLER
    ]


def _missed_wait(calibration: Calibration, p99_wait: float | None) -> list[str]:
    if p99_wait is None or calibration.report is None:
        return []
    wait = dict(calibration.report.waits).get(0.99, math.inf)
    if wait <= p99_wait:
        return []
    failure = (
        f"--p99-wait: 99 % of the honest rows held back wait at most {1000 * wait:.1f} ms, not {1000 * p99_wait:.1f} ms; "
        f"allow {1000 * wait:.0f}ms, or {p99_wait / wait:.2g} times the overhead"
    )
    return [failure]


def _unpromised(callers: Sequence[str] | None, labels: dict[str, str]) -> tuple[tuple[str, int], ...]:
    rows = Counter(callers or ())
    few = [(labels.get(name, name), count) for name, count in rows.items() if name and count < PROMISE_ROWS]
    return tuple(sorted(few, key=lambda each: (-each[1], each[0])))
