"""Rehearse a calibration on rows held back: what honest callers of each kind pay, and how near they come to suspicion."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.pricing.calibration import KindReport
from modeltoll.pricing.conformal_tariff import ConformalTariff
from modeltoll.pricing.kinds import CALLER
from modeltoll.pricing.validation import bootstrap_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modeltoll.pricing.calibration import Calibration
    from modeltoll.pricing.kinds import FittedKind, HeldBack
    from modeltoll.pricing.suspicion import Suspicion
    from modeltoll.records import Floats, Integers, Progress

__all__ = [
    "LONG_RUN_HELD_BACK",
    "LONG_RUN_ROWS",
    "RHO0_STEPS",
    "WAIT_SHARES",
    "KindTrial",
    "is_suspected",
    "raise_rho0",
    "rehearse",
]

LONG_RUN_ROWS = 100_000  # of one caller of each kind, drawn with replacement from the rows held back
RHO0_STEPS = (0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1)  # tried in turn until no kind is suspected
WAIT_SHARES = (0.5, 0.95, 0.99, 0.999)
_LEAST, _MOST, _CALLERS = 50, 5000, 24  # rows of the simulated callers, and how many there are
_REPEATS = 20  # how often a row that was held back may be drawn for one of these callers, on average
_REPEATED_HELD_BACK = 100  # fewer rows are drawn once each: their own sampling error would look like another law
LONG_RUN_HELD_BACK = 800  # of fewer rows the sampling error alone would be found in ``LONG_RUN_ROWS`` rows


@dataclass(frozen=True, slots=True)
class KindTrial:
    """How one kind fares on its rows held back.

    ``waits``: pairs (share, seconds); that share of rows waits no longer, before suspicion. ``long_log_evidence``: the
    largest log evidence against one caller of ``LONG_RUN_ROWS`` rows; None where too few rows were held back to draw them,
    or where a smaller caller is suspected already.
    """

    report: KindReport
    waits: tuple[tuple[float, float], ...]
    long_log_evidence: float | None

    @property
    def suspected(self) -> bool:
        """Whether any of its simulated callers was suspected."""
        return self.report.suspected_at is not None


def rehearse(
    calibration: Calibration, held_back: Sequence[HeldBack], seed: int = 0, progress: Progress | None = None
) -> tuple[KindTrial, ...]:
    """Try each kind and caller on its rows held back, under the tariff of this calibration.

    For the evidence, ``_CALLERS`` callers of 50 to 5,000 rows and, of kinds that are no caller, one of ``LONG_RUN_ROWS`` rows
    are drawn, with replacement; of few rows held back only callers of at most so many rows, without replacement. A caller
    who is known to be honest has the kind of its own log. The same seed draws the same rows.
    """
    tariff, trials = ConformalTariff(calibration), []
    for place, rows in enumerate(held_back):
        trials.append(_trial(tariff, rows, _rng(seed, place)))
        if progress is not None:
            progress(place + 1, len(held_back))
    return tuple(trials)


def is_suspected(tariff: ConformalTariff, held_back: HeldBack, seed: int = 0, place: int = 0) -> bool:
    """Whether ``rehearse`` would find a suspect, without the prices. ``place``: of the rows in the rehearsal."""
    rng = _rng(seed, place)
    own = tariff.own_kind(held_back.name) if held_back.role == CALLER else None
    cells = tariff.assess(held_back.leaks, rng).cells
    return _try_callers(tariff.suspicion, held_back.role, cells, own, rng)[2] is not None


def _trial(tariff: ConformalTariff, held_back: HeldBack, rng: np.random.Generator) -> KindTrial:
    own = tariff.own_kind(held_back.name) if held_back.role == CALLER else None
    assessment = tariff.assess(held_back.leaks, rng)
    factors = assessment.factors if own is None else tariff.for_own_kind(assessment, own.name).factors
    seconds = tariff.unit_seconds * np.quantile(factors, WAIT_SHARES, method="higher")
    largest, long_run, suspected_at = _try_callers(tariff.suspicion, held_back.role, assessment.cells, own, rng)
    report = KindReport(
        name=held_back.name,
        role=held_back.role,
        rows=held_back.rows,
        mean_units=float(factors.mean()),
        interval=bootstrap_interval(factors, rng),
        p99_seconds=float(seconds[2]),
        max_log_evidence=largest,
        suspected_at=suspected_at,
        label=held_back.label,
    )
    return KindTrial(report, tuple(zip(WAIT_SHARES, seconds.tolist(), strict=True)), long_run)


def _try_callers(
    suspicion: Suspicion, role: str, cells: Integers, own: FittedKind | None, rng: np.random.Generator
) -> tuple[float, float | None, int | None]:
    """Draw callers from cells (rows,) held back; returns what the evidence against them comes to.

    Returns: the largest log evidence, that of the long run or None, and the first row at which one was suspected or None.
    ``own``: the kind of the caller's own log.
    """
    most = min(_MOST, _REPEATS * len(cells)) if len(cells) >= _REPEATED_HELD_BACK else len(cells)
    sizes = np.unique(np.geomspace(min(_LEAST, most), most, _CALLERS).astype(np.int64)).tolist()
    logs = _log_evidence(suspicion, [rng.choice(cells, size, replace=size > len(cells)) for size in sizes], own)
    long_run = None
    limit = -math.log(suspicion.terms.alpha)
    if role != CALLER and len(cells) >= LONG_RUN_HELD_BACK and max(log.max() for log in logs) < limit:
        logs += _log_evidence(suspicion, [rng.choice(cells, LONG_RUN_ROWS)], own)
        long_run = float(logs[-1].max())
    suspected = [int(np.argmax(log >= limit)) + 1 for log in logs if (log >= limit).any()]
    return max(float(log.max()) for log in logs), long_run, min(suspected, default=None)


def _log_evidence(suspicion: Suspicion, drawn: Sequence[Integers], own: FittedKind | None) -> list[Floats]:
    """The log evidence after each row of each account, from the cells of its rows."""
    sizes = [len(cells) for cells in drawn]
    accounts = np.repeat(np.arange(len(drawn)), sizes)
    running = suspicion.running(np.concatenate(drawn), accounts, np.ones(len(accounts), np.bool_), own)
    return np.split(running.log_evidence, np.cumsum(sizes)[:-1])


def raise_rho0(
    calibration: Calibration, held_back: Sequence[HeldBack], seed: int = 0, progress: Progress | None = None
) -> tuple[Calibration, tuple[KindTrial, ...]]:
    """Raise the tax per row until no kind is suspected, and rehearse the result; kinds that are callers do not count.

    Where the largest of ``RHO0_STEPS`` is not enough, some trial is still suspected. A greater tax never adds evidence, so
    only suspected kinds are tried again before the last rehearsal.
    """
    trials = rehearse(calibration, held_back, seed, progress)
    failing = [place for place, trial in enumerate(trials) if trial.suspected and held_back[place].role != CALLER]
    if not failing:
        return calibration, trials
    steps = [rho0 for rho0 in RHO0_STEPS if rho0 > calibration.suspicion.rho0]
    enough = bisect_left(steps, True, key=lambda rho0: _frees(_taxed(calibration, rho0), held_back, failing, seed))
    if steps:
        calibration = _taxed(calibration, steps[min(enough, len(steps) - 1)])
    return calibration, rehearse(calibration, held_back, seed, progress)


def _taxed(calibration: Calibration, rho0: float) -> Calibration:
    return replace(calibration, suspicion=replace(calibration.suspicion, rho0=rho0))


def _frees(calibration: Calibration, held_back: Sequence[HeldBack], failing: Sequence[int], seed: int) -> bool:
    """Whether none of the kinds in these places is suspected."""
    tariff = ConformalTariff(calibration)
    return not any(is_suspected(tariff, held_back[place], seed, place) for place in failing)


def _rng(seed: int, place: int) -> np.random.Generator:
    """The generator of one trial, the same each time that it is repeated."""
    return np.random.default_rng((seed, place))
