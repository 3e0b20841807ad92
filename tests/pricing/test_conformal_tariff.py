"""The laws of the conformal price."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeltoll.errors import CalibrationError
from modeltoll.pricing.calibration import NewAccountToll
from modeltoll.pricing.conformal_tariff import ConformalTariff
from modeltoll.pricing.fit import CalibrationTerms, HoldoutSplit, RowCosts, fit_calibration
from modeltoll.pricing.suspicion import SuspicionTerms
from modeltoll.pricing.tariff import new_account_share
from modeltoll.records import Caller, Leaks
from modeltoll.testing.tariffs import check_tariff, new_account

SCORES = st.one_of(
    st.floats(0.0, 1e300),  # any size, down to the subnormal
    st.integers(0, 3).map(float),  # heavy ties
    st.sampled_from([0.0, 1e-300, 1.0, 1.0 + 2**-52]),  # ties but for rounding
)


@st.composite
def exchangeable_rows(draw):
    """n + 1 rows of one to three measures, and weights: whatever honest callers may send."""
    measures = draw(st.integers(1, 3))
    rows = draw(st.lists(st.tuples(*[SCORES] * measures), min_size=3, max_size=25))
    shares = np.array(draw(st.lists(st.floats(0.01, 1.0), min_size=measures, max_size=measures)))
    return np.array(rows), tuple(shares / shares.sum())


def leaks_of(tariff, values):
    return Leaks(tariff.measures, np.asarray(values, dtype=np.float64))


@settings(max_examples=60, deadline=None)
@given(exchangeable_rows(), st.floats(0.01, 0.99))
def test_an_honest_row_costs_at_most_one_unit_on_average(make_calibration, drawn, g):
    """Exact, without sampling: any of n + 1 exchangeable rows may be the new one, each with the same chance."""
    rows, weights = drawn
    factors = []
    for place in range(len(rows)):
        others = np.delete(rows, place, axis=0).T
        tariff = ConformalTariff(make_calibration(others, weights=weights, g=g))
        factors.extend(tariff.assess(leaks_of(tariff, rows[place : place + 1]), np.random.default_rng(0)).factors)
    assert np.mean(factors) <= 1.0 + 1e-9


@pytest.mark.parametrize("tied", [False, True])
def test_honest_rows_cost_at_most_one_unit_over_calibration_sets(tied):
    """Monte Carlo, through ``fit_calibration``: 100 calibrations, each with rows of its own, dependent measures."""
    means = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        values = rng.gamma(0.5, size=(1300, 2)).cumsum(axis=1)
        values = np.floor(2.0 * values) if tied else values
        fitted = fit_calibration(
            "model",
            Leaks(("a", "b"), values[:300]),
            RowCosts(0.01),
            CalibrationTerms(weights=(0.3, 0.7)),
            split=HoldoutSplit(seed=seed),
        )
        means.append(ConformalTariff(fitted).assess(Leaks(("a", "b"), values[300:]), rng).factors.mean())
    assert np.mean(means) <= 1.0 + 3.0 * np.std(means) / np.sqrt(len(means))


def test_the_price_is_the_mean_of_the_published_formula_over_the_bin(make_calibration):
    """p = (1 + #{s_i >= s}) / (n + 1), work = unit times the mean of (1 - g) p^(-g), counted by hand, ties included.

    At g = 0.5 the bins end at p = 1, 1/4, 1/16: here 2/5 to 1, and 1/5.
    """
    tariff = ConformalTariff(make_calibration([[1.0, 2.0, 2.0, 3.0]], g=0.5, unit_seconds=2.0))
    assessment = tariff.assess(leaks_of(tariff, [[0.5], [1.0], [2.0], [2.5], [3.0], [9.0]]), np.random.default_rng(0))
    p_values = np.array([5, 5, 4, 2, 2, 1]) / 5
    assert np.array_equal(assessment.rarest, p_values)
    common = 0.5 * (1.0 + (5 / 4) ** 0.5 + (5 / 3) ** 0.5 + (5 / 2) ** 0.5) / 4
    assert np.allclose(assessment.factors, [common] * 5 + [0.5 * 5**0.5], rtol=1e-15)
    account = dataclasses.replace(new_account(tariff, Caller("key:alice")), rows=6)
    work = tariff.work(assessment, account)
    assert work.seconds == work.rows_seconds == pytest.approx(2.0 * assessment.factors.sum())
    assert not work.suspected


def test_several_measures_are_averaged_by_weight_and_the_rarest_is_the_smallest(make_calibration):
    scores = np.arange(1.0, 100.0)
    tariff = ConformalTariff(make_calibration([scores, scores], weights=(0.25, 0.75)))
    assessment = tariff.assess(leaks_of(tariff, [[99.5, 0.5]]), np.random.default_rng(0))
    assert assessment.rarest[0] == 0.01
    rarest = 0.2 * 0.01**-0.8  # p = 0.02 is in the next bin, above 2^(-5 / 0.8) = 0.0131
    commonest = 0.2 * (np.arange(43, 101) / 100) ** -0.8  # p above 2^(-1 / 0.8) = 0.4204
    assert assessment.factors[0] == pytest.approx(0.25 * rarest + 0.75 * commonest.mean())


@given(st.lists(st.tuples(SCORES, SCORES), min_size=2, max_size=20))
def test_a_larger_leak_never_costs_less(tariff, rows):
    values = np.sort(np.array(rows), axis=0)
    factors = tariff.assess(leaks_of(tariff, values), np.random.default_rng(0)).factors
    assert (np.diff(factors) >= 0.0).all()


def test_rounding_in_the_last_bits_of_a_tie_changes_nothing(make_calibration):
    """Where nine in ten honest rows tie, the next double above the tie is no rarer than the tie."""
    tariff = ConformalTariff(make_calibration([[0.1] * 900 + [0.5] * 100]))
    readings = leaks_of(tariff, [[0.1], [np.nextafter(0.1, 1.0)], [np.nextafter(0.1, 0.0)]])
    assessment = tariff.assess(readings, np.random.default_rng(0))
    assert (assessment.rarest == 1.0).all()
    alike = tariff.assess(leaks_of(tariff, np.full((20_000, 1), np.nextafter(0.1, 1.0))), np.random.default_rng(0))
    assert len(np.unique(alike.bins)) > 5, "a tie is spread over the whole of its p-values"


@pytest.mark.parametrize("scale", [None, 1.0, 3.0])
def test_the_smoothed_p_values_of_honest_rows_are_uniform_even_where_tied(make_calibration, scale):
    """Chi-square over the bins, each row against a calibration of its own: 13 degrees of freedom, 0.1 % quantile."""
    rng = np.random.default_rng(5)
    counts = np.zeros(14)
    for _ in range(4000):
        values = rng.exponential(size=1200) if scale is None else np.floor(scale * rng.exponential(size=1200))
        tariff = ConformalTariff(make_calibration([values[1:]]))
        assert tariff.shape == (1, 14)
        counts[tariff.assess(leaks_of(tariff, [[values[0]]]), rng).bins[0, 0]] += 1
    expected = 4000 * np.diff(tariff.suspicion.edges)
    assert ((counts - expected) ** 2 / expected).sum() < 34.53


def test_conformal_tariffs_keep_the_law_of_tariffs(tariff, make_calibration):
    check_tariff(tariff)
    check_tariff(ConformalTariff(make_calibration([np.arange(3.0)], g=0.3)))
    keyed = NewAccountToll(anonymous_units=0.0, keyed_units=7.0)
    check_tariff(ConformalTariff(make_calibration([np.arange(50.0)] * 3, new_account_toll=keyed)))


def test_a_batch_shows_no_more_of_a_row_than_its_bin(make_calibration):
    """Any two rows of the same bins have the same work, to the bit, beside any number of copies of a cheap row."""
    tariff = ConformalTariff(make_calibration([np.arange(1.0, 4001.0)] * 2, weights=(1 / 3, 2 / 3)))
    bins, rng = tariff.price_bins, np.random.default_rng(3)
    prices = bins.factors(0.8)
    for _ in range(200):
        low, high = bins.bounds(bins.starts[rng.integers(len(bins.starts), size=2)])  # a bin for each measure
        ranks = rng.integers(
            np.rint(low * 4001), np.rint(high * 4001) + 1, size=(2, 2)
        )  # p (rows, measures), times n + 1
        cheap = np.full((int(rng.choice([0, 1, 7, 8, 64, 1023])), 2), rng.uniform(0.0, 2000.0))
        quotes = []
        for rank in ranks:
            rows = np.append(cheap, [4000.5 - (rank - 1)], axis=0)
            assessment = tariff.assess(leaks_of(tariff, rows), np.random.default_rng(0))
            assert assessment.rarest[-1] == rank.min() / 4001
            assert assessment.factors[-1] == pytest.approx(prices[rank - 1] @ (1 / 3, 2 / 3))
            quotes.append(tariff.work(assessment, new_account(tariff, Caller("key:a", markup=4.0))))
        assert quotes[0] == quotes[1]


def test_the_new_account_toll_is_of_callers_without_a_key_and_no_part_of_the_work(tariff):
    account = dataclasses.replace(new_account(tariff, Caller("net:198.51.100.7")), rows=1)
    work = tariff.work(tariff.assess(leaks_of(tariff, [[1.0, 1.0]]), np.random.default_rng(0)), account)
    assert (work.new_account_seconds, work.seconds) == (0.0, work.rows_seconds)
    assert tariff.new_account_seconds(account.caller) == pytest.approx(200.0 * tariff.unit_seconds)
    assert tariff.new_account_seconds(Caller("key:alice")) == 0.0


@given(st.lists(st.integers(1, 15), min_size=1, max_size=20))
def test_the_shares_of_the_new_account_toll_are_paid_once_however_rows_are_split(sizes):
    paid = sum(new_account_share(size, sum(sizes[:place])) for place, size in enumerate(sizes))
    assert paid == pytest.approx(min(sum(sizes), 10) / 10)


def suspect(tariff, rows, thefts):
    """An account after so many rows, so many of which fell into the rarest bin of every measure."""
    counts = np.zeros(tariff.shape)
    counts[:, 0] = thefts
    return dataclasses.replace(
        new_account(tariff, Caller("key:mallory")), rows=rows, counts=tuple(tuple(row) for row in counts.tolist())
    )


@given(st.integers(2, 500), st.lists(st.tuples(SCORES, SCORES), min_size=1, max_size=20))
def test_only_rare_rows_are_surcharged(tariff, thefts, rows):
    """Rows whose smallest p-value is 0.5 or more cost the same under suspicion, all others the surcharge times."""
    assessment = tariff.assess(leaks_of(tariff, rows), np.random.default_rng(0))
    work = tariff.work(assessment, suspect(tariff, thefts + len(rows), thefts))
    multiplied = np.where(assessment.rarest < 0.5, work.surcharge, 1.0)
    assert work.rows_seconds == pytest.approx(0.01 * float((assessment.factors * multiplied).sum()))
    assert 1.0 <= work.surcharge <= 100.0 * (1.0 + 1e-12)
    assert work.suspected or thefts < 10


def test_an_account_kept_under_another_tariff_is_refused(tariff):
    account = dataclasses.replace(new_account(tariff, Caller("key:alice")), counts=((0.0, 0.0),))
    with pytest.raises(CalibrationError):
        tariff.work(tariff.assess(leaks_of(tariff, [[1.0, 1.0]]), np.random.default_rng(0)), account)


@pytest.mark.parametrize(
    "terms",
    [
        {"g": 0.7},
        {"unit_seconds": 0.02},
        {"weights": (0.4, 0.6)},
        {"suspicion": SuspicionTerms(rho=0.5)},
        {"new_account_toll": NewAccountToll(keyed_units=1.0)},
    ],
)
def test_other_prices_for_the_same_counts_keep_the_identity(calibration, terms):
    """A caller's counts outlive a change of g, weights, unit, suspicion or new-account toll."""
    assert dataclasses.replace(calibration, **terms).identity == calibration.identity


def test_the_identity_changes_with_whatever_counts_mean(calibration):
    scores = calibration.scores.copy()
    scores[0, 0] /= 2.0
    others = (
        {"model": "other"},
        {"measures": ("measure 0", "other")},
        {"scores": scores},
        {"scores": calibration.scores[:, 1:]},
    )
    identities = {dataclasses.replace(calibration, **changes).identity for changes in others}
    assert len(identities - {calibration.identity}) == 4


def test_a_row_at_one_half_is_not_rare(make_calibration):
    """Of 599 honest scores 299 are at or above it: p is 0.5 exactly, and suspicion leaves it alone."""
    tariff = ConformalTariff(make_calibration([np.arange(599.0)]))
    account = suspect(tariff, 100, 100)
    middling, rare = (tariff.assess(leaks_of(tariff, [[leak]]), np.random.default_rng(0)) for leak in (300.0, 301.0))
    assert middling.rarest[0] == 0.5
    assert tariff.work(middling, account).rows_seconds == pytest.approx(0.01 * middling.factors[0])
    assert tariff.work(rare, account).rows_seconds == pytest.approx(1.0 * rare.factors[0])


@given(st.integers(1, 8), st.integers(1, 3), st.integers(0, 2**32 - 1), st.booleans())
def test_few_rows_are_assessed_bit_for_bit_as_many_are(make_calibration, rows, measures, seed, ties):
    """The code for small requests equals the code for arrays: prices, p-values, bins and random numbers used."""
    rng = np.random.default_rng(seed)
    draw = (lambda *shape: rng.integers(0, 6, shape) / 5.0) if ties else (lambda *shape: rng.lognormal(size=shape))
    weights = rng.dirichlet(np.ones(measures))
    tariff = ConformalTariff(make_calibration(np.sort(draw(measures, 40), axis=1), weights=tuple(weights.tolist())))
    values = draw(rows, measures)
    few = tariff.assess(Leaks(tariff.measures, values), np.random.default_rng(1))
    padded = np.concatenate([values, draw(9, measures)])
    many = tariff.assess(Leaks(tariff.measures, padded), np.random.default_rng(1))
    for part in ("factors", "rarest", "bins"):
        assert np.array_equal(getattr(few, part), getattr(many, part)[:rows]), part
        assert getattr(few, part).dtype == getattr(many, part).dtype


def test_no_rows_are_assessed_in_the_shapes_of_many(tariff):
    measures, _ = tariff.shape
    assessment = tariff.assess(leaks_of(tariff, np.empty((0, measures))), np.random.default_rng(0))
    assert (assessment.factors.shape, assessment.rarest.shape, assessment.bins.shape) == ((0,), (0,), (0, measures))
    assert assessment.bins.dtype == np.int64
