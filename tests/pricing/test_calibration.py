"""Calibration: the report on rows held back is true, and unusable rows are refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

from modeltoll.errors import CalibrationError
from modeltoll.pricing.calibration import NewAccountToll
from modeltoll.pricing.conformal_tariff import ConformalTariff
from modeltoll.pricing.fit import MINIMUM_UNIT_SECONDS, CalibrationTerms, HoldoutSplit, RowCosts, fit_calibration
from modeltoll.records import Leaks


def honest(rows=1000, measures=1, seed=0):
    names = tuple(f"measure {place}" for place in range(measures))
    return Leaks(names, np.random.default_rng(seed).lognormal(size=(rows, measures)))


def test_every_row_is_either_calibrated_on_or_held_back():
    fitted = fit_calibration("model", honest(1000), RowCosts(0.01), split=HoldoutSplit(holdback=0.3))
    assert fitted.honest_rows == 700
    assert fitted.report.held_back == 300
    assert np.isin(fitted.scores, honest(1000).values).all()


def test_the_report_is_what_the_served_tariff_charges_on_rows_held_back():
    leaks = honest(1000, 2)
    fitted = fit_calibration("model", leaks, RowCosts(0.01))
    back = leaks.values[~np.isin(leaks.values[:, 0], fitted.scores[0])]
    tariff = ConformalTariff(fitted)
    factors = tariff.assess(Leaks(leaks.measures, back), np.random.default_rng(0)).factors
    report = fitted.report
    assert report.mean == pytest.approx(factors.mean())
    assert report.low < report.mean < report.high
    assert [share for share, _ in report.waits] == [0.5, 0.95, 0.99, 0.999]
    for share, seconds in report.waits:
        assert (factors * fitted.unit_seconds <= seconds * (1 + 1e-12)).mean() >= share
    assert report.warnings == ()


def test_the_interval_of_the_mean_covers_the_true_mean():
    """The true mean, from 100,000 fresh rows, lies in most of 40 intervals. Heavy tails: 80 % are required."""
    covered = 0
    for seed in range(40):
        fitted = fit_calibration("model", honest(1000, seed=seed), RowCosts(0.01), split=HoldoutSplit(seed=seed))
        fresh = ConformalTariff(fitted).assess(honest(100_000, seed=1000 + seed), np.random.default_rng(0))
        covered += fitted.report.low <= fresh.factors.mean() <= fitted.report.high
    assert covered >= 32


def test_the_same_seed_gives_the_same_calibration_and_another_seed_another():
    one, two, three = (
        fit_calibration("model", honest(), RowCosts(0.01), split=HoldoutSplit(seed=seed)) for seed in (1, 1, 2)
    )
    assert one.identity == two.identity != three.identity
    assert one.report == two.report


def test_a_shift_between_what_is_calibrated_on_and_what_is_held_back_is_reported():
    """Rows held back that leak ten times as much: the interval lies above 1, and a warning says so."""
    order = np.random.default_rng(0).permutation(1000)
    leaks = honest(1000)
    leaks.values[order[800:]] *= 100.0
    report = fit_calibration("model", leaks, RowCosts(0.01), split=HoldoutSplit(holdback=0.2, seed=0)).report
    assert report.low > 1.0
    assert any("held back" in warning for warning in report.warnings)


def test_the_unit_is_the_overhead_less_the_gates_own_time():
    assert RowCosts(0.01, gate_seconds=0.002, overhead=1.5).unit() == (pytest.approx(0.013), ())
    assert RowCosts(unit_seconds=0.25).unit() == (0.25, ())


def test_a_gate_that_uses_up_the_unit_is_reported_and_the_minimum_is_used():
    fitted = fit_calibration("model", honest(), RowCosts(0.001, gate_seconds=0.0009))
    assert fitted.unit_seconds == MINIMUM_UNIT_SECONDS
    assert any("minimum of 0.5 ms" in warning for warning in fitted.report.warnings)


@pytest.mark.parametrize(
    ("costs", "terms", "units"),
    [
        (RowCosts(0.01), CalibrationTerms(), 200.0),
        (RowCosts(0.01, gate_seconds=0.006), CalibrationTerms(), 500.0),
        (RowCosts(0.01, gate_seconds=0.006), CalibrationTerms(new_account_queries=10.0), 25.0),
        (
            RowCosts(0.01, gate_seconds=0.006),
            CalibrationTerms(new_account_toll=NewAccountToll(anonymous_units=7.0)),
            7.0,
        ),
        (RowCosts(0.01, unit_seconds=0.25), CalibrationTerms(), 200.0),
        (RowCosts(3600.0, overhead=1e-6), CalibrationTerms(new_account_queries=1e3), 1e6),
    ],
)
def test_what_an_account_without_a_key_pays_first_is_worth_so_many_queries(costs, terms, units):
    toll = fit_calibration("model", honest(), costs, terms).new_account_toll
    assert toll.anonymous_units == pytest.approx(units)
    assert toll.keyed_units == 0.0


def test_repeated_rows_are_reported():
    leaks = honest(250)
    fourfold = Leaks(leaks.measures, np.tile(leaks.values, (4, 1)))
    warnings = fit_calibration("model", fourfold, RowCosts(0.01)).report.warnings
    assert any("only 250 of 1000" in warning for warning in warnings)


@pytest.mark.parametrize(
    ("leaks", "fault"),
    [
        (honest(199), "199 honest rows are too few"),
        (Leaks(("flat", "fine"), np.stack([np.ones(300), np.arange(300.0)], axis=1)), "one flat leak"),
        (Leaks(("bad",), np.full((300, 1), math.nan)), "300 honest rows have a bad leak"),
        (Leaks(("bad",), np.linspace(-1.0, 1.0, 300)[:, None]), "150 honest rows have a bad leak"),
        (Leaks(("one", "two"), np.ones((300, 1))), "shape"),
    ],
)
def test_honest_rows_that_cannot_carry_a_tariff_are_refused(leaks, fault):
    with pytest.raises(CalibrationError, match=fault):
        fit_calibration("model", leaks, RowCosts(0.01))


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"costs": RowCosts()}, "'undefended_seconds'"),
        ({"costs": RowCosts(math.nan)}, "'undefended_seconds'"),
        ({"costs": RowCosts(0.01, overhead=0.0)}, "'overhead'"),
        ({"costs": RowCosts(0.01, gate_seconds=-1.0)}, "'gate_seconds'"),
        ({"costs": RowCosts(unit_seconds=math.inf)}, "'unit_seconds'"),
        ({"terms": CalibrationTerms(g=1.0)}, "'g'"),
        ({"terms": CalibrationTerms(weights=(0.5, 0.4))}, "'weights'"),
        ({"terms": CalibrationTerms(weights=())}, "'weights'"),
        ({"terms": CalibrationTerms(new_account_queries=-1.0)}, "'new_account_queries'"),
        ({"terms": CalibrationTerms(new_account_queries=math.inf)}, "'new_account_queries'"),
        ({"split": HoldoutSplit(holdback=0.9)}, "'holdback'"),
        ({"model": ""}, "'model'"),
    ],
)
def test_terms_out_of_range_are_refused_by_name(changes, fault):
    arguments = {"model": "model", "leaks": honest(300, 2), "costs": RowCosts(0.01)} | changes
    with pytest.raises(CalibrationError, match=fault):
        fit_calibration(**arguments)
