"""A rehearsal says what honest callers of each kind pay, and raises the tax per row until none of them is suspected."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from honest_kinds import declared, rows
from modeltoll.pricing.conformal_tariff import ConformalTariff
from modeltoll.pricing.fit import CalibrationTerms, FitSamples, HoldoutSplit, RowCosts, fit_with_rows_held_back
from modeltoll.pricing.kinds import ALL_TRAFFIC, CALLER, CLASS, DECLARED, HeldBack
from modeltoll.pricing.rehearsal import LONG_RUN_ROWS, RHO0_STEPS, raise_rho0, rehearse
from modeltoll.pricing.suspicion import SuspicionTerms
from modeltoll.pricing.validation import bootstrap_interval, side_of_one

SHIFTS = {"blur:1": (0.5, 0.5), "dark:1": (-0.4, 1.0), "noise:1": (0.8, 0.2)}


def fit(samples, **terms):
    suspicion = SuspicionTerms(**terms)
    return fit_with_rows_held_back(
        "model", samples, RowCosts(0.01), CalibrationTerms(suspicion=suspicion), split=HoldoutSplit(seed=1)
    )


def kinds(classes=3):
    shifts = enumerate(SHIFTS.items())
    return tuple(declared(name, 2000, *shift, seed=10 + place, classes=classes) for place, (name, shift) in shifts)


@pytest.fixture(scope="module")
def fitted():
    honest = rows(5000, classes=3)
    callers = tuple(np.where((honest.classes == 2) & (np.arange(5000) % 5 == 0), "nina", "all"))
    return fit(FitSamples(honest, kinds(), (), callers, {"nina": "key:nina"}))


@pytest.fixture(scope="module")
def trials(fitted):
    return rehearse(fitted.calibration, fitted.held_back)


def test_the_margin_holds_in_100_000_rows_of_every_kind():
    """The promise to kinds: after ``raise_rho0`` no kind is suspected in 100,000 fresh rows, of one caller of each kind."""
    fitted = fit(FitSamples(rows(5000, classes=1), kinds(classes=1)))
    calibration, rehearsed = raise_rho0(fitted.calibration, fitted.held_back)
    assert [trial.long_log_evidence is None for trial in rehearsed] == [trial.report.rows < 800 for trial in rehearsed]
    assert not any(trial.suspected for trial in rehearsed)
    assert calibration.suspicion.rho0 >= fitted.calibration.suspicion.rho0
    tariff, rng = ConformalTariff(calibration), np.random.default_rng(0)
    fresh = [
        rows(LONG_RUN_ROWS, *shift, seed=900 + place, classes=1)
        for place, shift in enumerate([(0.0, 0.0), *SHIFTS.values()])
    ]
    cells = np.concatenate([tariff.assess(leaks, rng).cells for leaks in fresh])
    accounts = np.repeat(np.arange(len(fresh)), LONG_RUN_ROWS)
    evidence = tariff.suspicion.running(cells, accounts, np.ones(len(cells), np.bool_)).log_evidence
    assert evidence.max() < -math.log(calibration.suspicion.alpha)


def test_without_any_tolerance_kinds_are_suspected_and_the_tax_is_raised_until_none_is():
    """The kinds' laws are estimates: with rho and rho0 of 0 their errors are found within 100,000 rows."""
    found = fit(FitSamples(rows(1000, classes=1), kinds(classes=1)[:1]), rho=0.0, rho0=0.0)
    assert any(trial.suspected for trial in rehearse(found.calibration, found.held_back))
    calibration, rehearsed = raise_rho0(found.calibration, found.held_back)
    assert not any(trial.suspected for trial in rehearsed)
    assert calibration.suspicion.rho0 in RHO0_STEPS
    below = [rho0 for rho0 in (0.0, *RHO0_STEPS) if rho0 < calibration.suspicion.rho0][-1]
    less = dataclasses.replace(calibration, suspicion=dataclasses.replace(calibration.suspicion, rho0=below))
    assert any(trial.suspected for trial in rehearse(less, found.held_back)), "the smallest step that is enough"


def test_a_kind_that_no_tax_frees_stays_suspected_and_is_not_hidden():
    """Rows held back of another law than the kind's: the largest step is not enough, and the trial says so."""
    found = fit(FitSamples(rows(1000, classes=1)))
    strange = HeldBack("other:1", DECLARED, rows(1000, 3.0, -3.0, seed=4, classes=1))
    calibration, rehearsed = raise_rho0(found.calibration, (*found.held_back, strange))
    assert calibration.suspicion.rho0 == RHO0_STEPS[-1]
    assert [trial.report.name for trial in rehearsed if trial.suspected] == ["other:1"]
    assert 0 < rehearsed[-1].report.suspected_at < 200
    assert rehearsed[-1].report.max_log_evidence > 13.8


def test_a_suspected_caller_does_not_raise_the_tax_of_everybody():
    found = fit(FitSamples(rows(1000, classes=1)))
    strange = HeldBack("odd", CALLER, rows(300, 3.0, -3.0, seed=4, classes=1))
    calibration, rehearsed = raise_rho0(found.calibration, (*found.held_back, strange))
    assert calibration.suspicion.rho0 == found.calibration.suspicion.rho0
    assert rehearsed[-1].suspected


def test_prices_and_waits_are_those_of_the_served_tariff(fitted, trials):
    held = next(each for each in fitted.held_back if each.name == "dark:1")
    trial = next(each for each in trials if each.report.name == "dark:1")
    factors = ConformalTariff(fitted.calibration).assess(held.leaks, np.random.default_rng(0)).factors
    assert trial.report.rows == held.rows == 1000
    assert trial.report.mean_units == pytest.approx(factors.mean())
    low, high = trial.report.interval
    assert low < trial.report.mean_units < high
    waits = dict(trial.waits)
    assert waits[0.99] == trial.report.p99_seconds == pytest.approx(0.01 * np.quantile(factors, 0.99, method="higher"))
    assert waits[0.5] <= waits[0.95] <= waits[0.99] <= waits[0.999]


def test_a_known_caller_pays_and_is_judged_by_its_own_log_too(fitted, trials):
    held = next(each for each in fitted.held_back if each.name == "nina")
    trial = next(each for each in trials if each.report.name == "nina")
    assert trial.report.label == "key:nina"
    bare = dataclasses.replace(
        fitted.calibration, kinds=tuple(kind for kind in fitted.calibration.kinds if kind.role != CALLER)
    )
    without = rehearse(bare, [held])[0]
    assert trial.report.mean_units <= without.report.mean_units
    odd = HeldBack("odd", CALLER, rows(1500, 3.0, -3.0, seed=4, classes=1))
    found = fit(
        FitSamples(
            rows(3000, classes=1), (dataclasses.replace(declared("odd"), role=CALLER, leaks=odd.leaks),), (), None, {}
        )
    )
    own = next(each for each in found.held_back if each.name == "odd")
    assert not rehearse(found.calibration, [own])[0].suspected
    stripped = dataclasses.replace(found.calibration, kinds=found.calibration.kinds[:1])
    assert rehearse(stripped, [own])[0].suspected


def test_few_rows_held_back_are_drawn_once_each(trials):
    """Fewer than 400 rows are no sample of 100,000: the long run is left out, and says so by its absence."""
    long_runs = {trial.report.role: trial.long_log_evidence is not None for trial in trials}
    assert (
        long_runs == {ALL_TRAFFIC: True, CLASS: False, CALLER: False, DECLARED: True} or trials[-1].report.rows >= 400
    )


def test_the_same_seed_gives_the_same_rehearsal_and_progress_reaches_the_end(fitted):
    heard = []
    two = fitted.held_back[:2]
    one = rehearse(fitted.calibration, two, 3, lambda *done: heard.append(done))
    assert [trial.report for trial in one] == [trial.report for trial in rehearse(fitted.calibration, two, 3)]
    assert heard == [(1, 2), (2, 2)]


def test_the_side_of_one_is_said_in_words():
    assert side_of_one(0.8, 0.99) == "yes, below 1"
    assert side_of_one(1.1, 1.4) == "no, above 1"
    assert side_of_one(0.8, 1.1) == "open, 1 lies inside"
    sample = np.random.default_rng(0).exponential(size=500)
    low, high = bootstrap_interval(sample, np.random.default_rng(1))
    assert low < sample.mean() < high
