"""The choice of g and weights: waits are kept, thieves pay more, and the bound on honest prices holds."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeltoll.errors import CalibrationError
from modeltoll.pricing import fit as fit_module
from modeltoll.pricing.conformal_tariff import price_factors
from modeltoll.pricing.fit import (
    CalibrationTerms,
    FitSamples,
    HoldoutSplit,
    RowCosts,
    fit_calibration,
    fit_with_rows_held_back,
)
from modeltoll.pricing.kinds import DECLARED, KindSample
from modeltoll.pricing.selection import PriceTargets, select_terms
from modeltoll.records import Leaks

NAMES = ("blind", "keen")


def honest(rows, seed):
    return Leaks(NAMES, np.random.default_rng(seed).lognormal(size=(rows, 2)))


def thief(rows=300, seed=9):
    """Ordinary to the first measure, rare to the second."""
    rng = np.random.default_rng(seed)
    return Leaks(NAMES, np.column_stack([rng.lognormal(size=rows), rng.lognormal(2.0, size=rows)]))


def test_the_wait_asked_for_holds_on_fresh_honest_rows():
    """With a confidence of 90 %: of 20 choices no more than 2, and three standard errors, fail."""
    failed = 0
    for seed in range(20):
        units = (3.0, 5.0, 20.0)[seed % 3]
        fitted = fit_calibration(
            "m", honest(1000 + 10 * seed, seed), RowCosts(0.01), CalibrationTerms(targets=PriceTargets(0.01 * units))
        )
        against = select_terms(honest(10_000, 1000 + seed), 0.01, PriceTargets(), fitted.g, fitted.weights)
        failed += against.p99_units > 1.03 * units
    assert failed <= 2 + 3 * 1.34


def test_with_thieves_the_measure_that_sees_them_gets_the_weight():
    fitted = fit_calibration(
        "m", honest(3000, 3), RowCosts(0.01), CalibrationTerms(targets=PriceTargets(thieves=(thief(),)))
    )
    plain = fit_calibration("m", honest(3000, 3), RowCosts(0.01))
    assert fitted.weights[1] > 0.9

    def cheaper_half(calibration):
        factors = np.sort(price_factors(calibration, thief(seed=10)))
        return factors[: len(factors) // 2].mean()

    assert cheaper_half(fitted) > 1.3 * cheaper_half(plain)


def test_of_several_thieves_the_one_who_pays_least_decides():
    other = Leaks(NAMES, thief().values[:, ::-1])
    choice = select_terms(honest(1000, 4), 0.01, PriceTargets(thieves=(thief(), other)), 0.8, None)
    assert 0.3 <= choice.weights[0] <= 0.7


def test_without_targets_of_its_own_a_choice_is_what_was_given():
    assert select_terms(honest(500, 5), 0.01, PriceTargets(), 0.77, (0.25, 0.75)).g == 0.77
    choice = select_terms(honest(500, 5), 0.01, PriceTargets(1e9), 0.5, None)
    assert (choice.g, choice.weights) == (0.5, (0.5, 0.5))


def test_given_weights_are_kept_and_only_g_is_chosen():
    choice = select_terms(honest(500, 6), 0.01, PriceTargets(0.05, (thief(),)), 0.8, (0.75, 0.25))
    assert choice.weights == (0.75, 0.25)
    assert choice.p99_units <= 5.0


def test_a_wait_that_no_g_keeps_is_refused_and_the_least_is_reported():
    with pytest.raises(
        CalibrationError, match=r"no g lets 99 % of honest rows wait at most 0\.005 s: 0\.0(09|1)\d* s is the least"
    ):
        fit_calibration("m", honest(1000, 7), RowCosts(0.01), CalibrationTerms(targets=PriceTargets(0.005)))


@pytest.mark.parametrize("wrong", [Leaks(("keen", "blind"), np.ones((5, 2))), Leaks(NAMES, np.ones((0, 2)))])
def test_thieves_and_kinds_of_other_measures_or_without_rows_are_refused(wrong):
    with pytest.raises(CalibrationError, match="thieves' rows must have leaks of blind, keen"):
        select_terms(honest(300, 8), 0.01, PriceTargets(thieves=(wrong,)), 0.8, None)
    with pytest.raises(CalibrationError, match="kinds' rows must have leaks of blind, keen"):
        select_terms(honest(300, 8), 0.01, PriceTargets(), 0.8, None, [wrong])


def blurred(rows, seed):
    """A kind of honest rows that leaks much more by the first measure, and by the second as all traffic does."""
    rng = np.random.default_rng(seed)
    return Leaks(NAMES, np.column_stack([rng.lognormal(2.5, size=rows), rng.lognormal(size=rows)]))


def test_a_kind_that_leaks_more_makes_rows_cheap_by_that_measure_so_the_other_one_gets_the_weight():
    """The thief is rarer by the first measure among all traffic, but not among blurred rows."""
    rng = np.random.default_rng(9)
    stolen = Leaks(NAMES, np.column_stack([rng.lognormal(2.8, size=300), rng.lognormal(1.8, size=300)]))
    targets = PriceTargets(thieves=(stolen,))
    without = select_terms(honest(1000, 4), 0.01, targets, 0.8, None)
    with_kind = select_terms(honest(1000, 4), 0.01, targets, 0.8, None, [blurred(1000, 5)])
    assert without.weights[0] > 0.7
    assert with_kind.weights[1] > 0.7
    assert with_kind.thieves_units < without.thieves_units


def test_the_wait_asked_for_holds_for_every_kind():
    """The kind's own p99, counted from prices of a calibration with it: the maximum over the kinds is what is bounded."""
    few = Leaks(NAMES, blurred(120, 6).values)
    alone = select_terms(honest(1000, 4), 0.01, PriceTargets(), 0.8, None)
    together = select_terms(honest(1000, 4), 0.01, PriceTargets(), 0.8, None, [few])
    assert together.p99_units < alone.p99_units, "no p is below that among the few rows of the kind"
    fresh = np.array([select_terms(honest(120, seed), 0.01, PriceTargets(), 0.8, None).p99_units for seed in range(5)])
    of_kind = select_terms(few, 0.01, PriceTargets(), 0.8, None).p99_units
    assert together.p99_units <= max(of_kind, fresh.max()) * 1.001
    bound = 0.01 * 0.7 * together.p99_units
    chosen = select_terms(honest(1000, 4), 0.01, PriceTargets(bound), 0.8, None, [few])
    assert 0.01 * chosen.p99_units <= bound
    assert chosen.g != 0.8


def test_every_row_is_calibrated_on_chosen_on_or_held_back():
    parts = HoldoutSplit(holdback=0.25).divide(1000, np.random.default_rng(0), choosing=True)
    assert [len(part) for part in parts] == [500, 250, 250]
    assert np.sort(np.concatenate(parts)).tolist() == list(range(1000))


@pytest.mark.parametrize(
    ("rows", "sizes"),
    [
        (400, [320, 0, 80]),
        (1040, [832, 0, 208]),
        (1050, [1000, 10, 40]),
        (2000, [1000, 200, 800]),
        (9000, [8000, 200, 800]),
    ],
)
def test_a_kind_is_chosen_on_where_it_prices_rows_and_a_thousand_rows_are_held_back_at_most(rows, sizes):
    parts = HoldoutSplit().divide_kind(rows, np.random.default_rng(0), choosing=True)
    assert [len(part) for part in parts] == sizes
    assert np.sort(np.concatenate(parts)).tolist() == list(range(rows))
    plain = HoldoutSplit().divide_kind(rows, np.random.default_rng(0))
    assert [len(part) for part in plain] == [sizes[0], 0, sizes[1] + sizes[2]]


def test_a_fit_chooses_on_rows_of_the_kinds_that_price_rows_and_on_no_others(monkeypatch):
    chosen_on = []

    def spy(*given):
        chosen_on.extend(given[5])
        return select_terms(*given)

    monkeypatch.setattr(fit_module, "select_terms", spy)
    kinds = (KindSample("large:1", DECLARED, honest(2000, 5)), KindSample("small:1", DECLARED, honest(300, 6)))
    found = fit_with_rows_held_back(
        "m", FitSamples(honest(1000, 4), kinds), RowCosts(0.01), CalibrationTerms(targets=PriceTargets(1.0))
    )
    (rows,) = (each.values[:, 0] for each in chosen_on)
    large = next(kind for kind in found.calibration.kinds if kind.name == "large:1")
    held = next(each for each in found.held_back if each.name == "large:1").leaks.values[:, 0]
    together = np.sort(np.concatenate([rows, held, large.scores[0]]))
    assert (together == np.sort(kinds[0].leaks.values[:, 0])).all()
    assert len(rows) == 200


def test_half_of_the_rows_cannot_be_held_back_where_rows_are_needed_to_choose_on():
    with pytest.raises(CalibrationError, match="'holdback'"):
        fit_calibration(
            "m",
            honest(300, 8),
            RowCosts(0.01),
            CalibrationTerms(targets=PriceTargets()),
            split=HoldoutSplit(holdback=0.5),
        )


def test_the_choice_looks_at_no_calibration_row():
    """Other calibration rows, the same rows to choose on: the same choice."""
    leaks = honest(1000, 11)
    terms = CalibrationTerms(targets=PriceTargets(0.04, (thief(),)))
    one = fit_calibration("m", leaks, RowCosts(0.01), terms)
    changed = leaks.values.copy()
    changed[np.isin(changed[:, 0], one.scores[0])] *= 7.0
    two = fit_calibration("m", dataclasses.replace(leaks, values=changed), RowCosts(0.01), terms)
    assert one.identity != two.identity
    assert (one.g, one.weights) == (two.g, two.weights)


def test_honest_rows_cost_at_most_one_unit_on_average_whatever_was_chosen():
    """Monte Carlo over 60 calibration sets, g and weights chosen anew in each."""
    terms = CalibrationTerms(targets=PriceTargets(0.06, (thief(),)))
    means = []
    for seed in range(60):
        fitted = fit_calibration("m", honest(400, 100 + seed), RowCosts(0.01), terms, split=HoldoutSplit(seed=seed))
        means.append(price_factors(fitted, honest(2000, 1000 + seed)).mean())
    assert np.mean(means) <= 1.0 + 3.0 * np.std(means) / np.sqrt(len(means))


@settings(max_examples=25)
@given(st.floats(0.05, 0.95), st.floats(1.0, 40.0))
def test_the_chosen_g_is_the_nearest_that_keeps_the_wait(g, units):
    rows = honest(400, 12)
    try:
        choice = select_terms(rows, 1.0, PriceTargets(units), g, None)
    except CalibrationError:
        return
    assert choice.p99_units <= units
    own = select_terms(rows, 1.0, PriceTargets(), g, None)
    assert (choice.g == g) == (own.p99_units <= units)
