"""The laws of the conformal price."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeltoll.errors import CalibrationError
from modeltoll.evidence_records import Verdict
from modeltoll.pricing.calibration import NewAccountToll
from modeltoll.pricing.conformal_tariff import ConformalTariff
from modeltoll.pricing.fit import CalibrationTerms, HoldoutSplit, RowCosts, fit_calibration
from modeltoll.pricing.kinds import CALLER, FittedKind, FittedStranger
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


def leaks_of(tariff, values, classes=None):
    return Leaks(tariff.measures, np.asarray(values, dtype=np.float64), classes)


def work_of(tariff, assessment, account, verdict=None, clean=None):
    """The work by a verdict, by default that of the tariff."""
    return tariff.work(assessment, account, tariff.verdict(account) if verdict is None else verdict, clean)


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

    At g = 0.5 the bins end at p = 1, 1/4, 1/16. The integral of the factor from 0 to p is the root of p.
    """
    tariff = ConformalTariff(make_calibration([[1.0, 2.0, 2.0, 3.0]], g=0.5, unit_seconds=2.0))
    assessment = tariff.assess(leaks_of(tariff, [[0.5], [1.0], [2.0], [2.5], [3.0], [9.0]]), np.random.default_rng(0))
    p_values = np.array([5, 5, 4, 2, 2, 1]) / 5
    assert np.array_equal(assessment.rarest, p_values)
    common, rare = (1.0 - 0.5) / (1.0 - 0.25), (0.5 - 0.25) / (0.25 - 0.0625)
    assert np.allclose(assessment.factors, [common] * 5 + [rare], rtol=1e-15)
    account = dataclasses.replace(new_account(tariff, Caller("key:alice")), rows=6)
    work = work_of(tariff, assessment, account)
    assert work.seconds == work.rows_seconds == pytest.approx(2.0 * assessment.factors.sum())
    assert not work.suspected


def test_several_measures_are_averaged_by_weight_and_the_rarest_is_the_smallest(make_calibration):
    scores = np.arange(1.0, 100.0)
    tariff = ConformalTariff(make_calibration([scores, scores], weights=(0.25, 0.75)))
    assessment = tariff.assess(leaks_of(tariff, [[99.5, 0.5]]), np.random.default_rng(0))
    assert assessment.rarest[0] == 0.01
    ends = 2.0 ** (-np.array([0, 1, 5, 6]) / 0.8)  # p = 1, 0.4204, 0.0131, 0.0055
    commonest, _, rarest = (ends[:-1] ** 0.2 - ends[1:] ** 0.2) / (ends[:-1] - ends[1:])
    assert assessment.factors[0] == pytest.approx(0.25 * rarest + 0.75 * commonest)


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
    assert len(np.unique(alike.cells)) > 5, "a tie is spread over the whole of its p-values"


@pytest.mark.parametrize("scale", [None, 1.0, 3.0])
def test_the_smoothed_p_values_of_honest_rows_are_uniform_even_where_tied(make_calibration, scale):
    """Chi-square over the bins, each row against a calibration of its own: 13 degrees of freedom, 0.1 % quantile."""
    rng = np.random.default_rng(5)
    counts = np.zeros(14)
    for _ in range(4000):
        values = rng.exponential(size=1200) if scale is None else np.floor(scale * rng.exponential(size=1200))
        tariff = ConformalTariff(make_calibration([values[1:]]))
        assert tariff.cell_count == 14
        counts[tariff.assess(leaks_of(tariff, [[values[0]]]), rng).cells[0]] += 1
    expected = 4000 * tariff.cells.widths
    assert ((counts - expected) ** 2 / expected).sum() < 34.53


def test_conformal_tariffs_keep_the_law_of_tariffs(tariff, rich, make_calibration):
    check_tariff(tariff)
    check_tariff(ConformalTariff(make_calibration([np.arange(3.0)], g=0.3)))
    keyed = NewAccountToll(anonymous_units=0.0, keyed_units=7.0)
    check_tariff(ConformalTariff(make_calibration([np.arange(50.0)] * 3, new_account_toll=keyed)))
    rng = np.random.default_rng(0)
    check_tariff(rich)
    check_tariff(rich, leaks_of(rich, 2.0 * rng.lognormal(size=(40, 2)), rng.integers(0, 8, 40)))


def test_a_batch_shows_no_more_of_a_row_than_its_bin(make_calibration):
    """Any two rows of the same bins have the same work, to the bit, beside any number of copies of a cheap row."""
    tariff = ConformalTariff(make_calibration([np.arange(1.0, 4001.0)] * 2, weights=(1 / 3, 2 / 3)))
    bins, rng = tariff.row_prices.price_bins, np.random.default_rng(3)
    prices, places = bins.prices(0.8), bins.of(np.arange(1, 4002) / 4001)
    for _ in range(200):
        chosen = rng.integers(bins.count, size=2)  # a bin for each measure
        ranks = np.stack([rng.choice(np.flatnonzero(places == place) + 1, 2) for place in chosen], axis=1)
        cheap = np.full((int(rng.choice([0, 1, 7, 8, 64, 1023])), 2), rng.uniform(0.0, 2000.0))
        quotes = []
        for rank in ranks:
            rows = np.append(cheap, [4000.5 - (rank - 1)], axis=0)
            assessment = tariff.assess(leaks_of(tariff, rows), np.random.default_rng(0))
            assert assessment.rarest[-1] == rank.min() / 4001
            assert assessment.factors[-1] == pytest.approx(prices[chosen] @ (1 / 3, 2 / 3))
            quotes.append(work_of(tariff, assessment, new_account(tariff, Caller("key:a", markup=4.0))))
        assert quotes[0] == quotes[1]


def test_the_new_account_toll_is_of_callers_without_a_key_and_no_part_of_the_work(tariff):
    account = dataclasses.replace(new_account(tariff, Caller("net:198.51.100.7")), rows=1)
    work = work_of(tariff, tariff.assess(leaks_of(tariff, [[1.0, 1.0]]), np.random.default_rng(0)), account)
    assert (work.new_account_seconds, work.seconds) == (0.0, work.rows_seconds)
    assert tariff.new_account_seconds(account.caller) == pytest.approx(200.0 * tariff.unit_seconds)
    assert tariff.new_account_seconds(Caller("key:alice")) == 0.0


@given(st.lists(st.integers(1, 15), min_size=1, max_size=20))
def test_the_shares_of_the_new_account_toll_are_paid_once_however_rows_are_split(sizes):
    paid = sum(new_account_share(size, sum(sizes[:place])) for place, size in enumerate(sizes))
    assert paid == pytest.approx(min(sum(sizes), 10) / 10)


def test_half_of_the_price_is_that_of_the_cell_where_strangers_are_given(rich):
    """Generic strangers, which the program makes itself, change no row price."""
    generic = dataclasses.replace(rich.calibration.strangers[0], generic=True)
    plain = ConformalTariff(dataclasses.replace(rich.calibration, strangers=(generic,)))
    assert plain.cell_prices is None
    rng = np.random.default_rng(4)
    leaks = leaks_of(rich, rng.lognormal(size=(300, 2)), rng.integers(0, 8, 300))
    assessment, without = (each.assess(leaks, np.random.default_rng(1)) for each in (rich, plain))
    assert np.array_equal(assessment.cells, without.cells)
    prices = 2.0 * assessment.factors - without.factors
    inside = np.isclose(prices, rich.cell_prices.prices[assessment.cells], rtol=1e-9, atol=1e-9)
    assert inside.mean() > 0.95, "all rows but those on an edge of two cells"
    assert np.array_equal(rich.factors(leaks), assessment.factors)
    assert len(set(assessment.factors.tolist()) - set(without.factors.tolist())) > 10


def test_the_mean_over_independent_ranks_is_at_most_one_with_strangers_too(make_calibration):
    """Exact: all pairs of ranks of untied rows, half by the formula over bins, half by the cells of the strangers."""
    calibration = make_calibration(
        np.sort(np.random.default_rng(0).lognormal(size=(2, 250)), axis=1), weights=(0.4, 0.6)
    )
    counts = np.zeros(calibration.cells.count, np.int64)
    counts[:3] = 100
    tariff = ConformalTariff(dataclasses.replace(calibration, strangers=(FittedStranger("photographs", counts),)))
    leaks = [np.append(scores, 2.0 * scores[-1]) * (1 - 1e-6) for scores in calibration.scores]  # one for each rank
    grid = np.stack(np.meshgrid(*leaks, indexing="ij"), axis=-1).reshape(-1, 2)
    factors = tariff.factors(leaks_of(tariff, grid))
    assert factors.max() > 20.0
    assert 0.3 < factors.mean() <= 1.0


def reference_units(tariff, leaks, cells, verdict, clean):
    """The units of suspected rows as DESIGN words them, row by row, from p-values counted by hand."""
    calibration, terms = tariff.calibration, tariff.calibration.suspicion
    samples = [(calibration.scores, leaks.values)] + ([] if clean is None else [(calibration.clean_scores, clean)])
    prices = tariff.row_prices.price_bins
    units = []
    for place, (cell, factor) in enumerate(zip(cells, tariff.factors(leaks), strict=True)):
        p_values = np.min(
            [
                [(1 + (own >= leak).sum()) / (len(own) + 1) for own, leak in zip(scores, values[place], strict=True)]
                for scores, values in samples
            ],
            axis=0,
        )
        clean_factor = float(calibration.weights @ prices.factors(p_values, calibration.g))
        speaks_against = verdict.frequent[cell] or p_values.min() < terms.rare_below
        units.append(max(1.0, factor, clean_factor) * verdict.surcharge if speaks_against else factor)
    return np.array(units)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans(), st.floats(1.0, 100.0, exclude_min=True), st.floats(0.0, 1.0))
def test_a_suspect_pays_for_rows_of_frequent_cells_and_for_rare_ones_by_their_clean_price(
    rich, seed, measured, surcharge, share
):
    rng = np.random.default_rng(seed)
    leaks = leaks_of(rich, rng.lognormal(size=(40, 2)), rng.integers(0, 8, 40))
    clean = rng.lognormal(size=(40, 2)) if measured else None
    verdict = Verdict(surcharge, log_evidence=20.0, frequent=rng.random(rich.cell_count) < share)
    assessment = rich.assess(leaks, rng)
    account = new_account(rich, Caller("key:mallory", discount=0.5, markup=2.0))
    work = rich.work(assessment, account, verdict, clean)
    expected = reference_units(rich, leaks, assessment.cells, verdict, clean)
    assert work.rows_seconds == pytest.approx(2.0 * 0.01 * expected.sum()), "and no discount"
    assert (work.surcharge, work.suspected) == (surcharge, True)
    every = rich.row_units(assessment, surcharge, verdict.frequent[assessment.cells], clean=clean)
    assert every == pytest.approx(expected)


def test_surcharges_of_rows_of_many_callers_are_those_of_each(rich):
    rng = np.random.default_rng(6)
    assessment = rich.assess(leaks_of(rich, rng.lognormal(size=(50, 2))), rng)
    surcharge, group = rng.choice([1.0, 7.0], 50), rng.choice([1.0, 3.0], 50)
    frequent = rng.random(50) < 0.5
    together = rich.row_units(assessment, surcharge, frequent, group)
    for row in range(50):
        one = dataclasses.replace(
            assessment,
            factors=assessment.factors[row : row + 1],
            rarest=assessment.rarest[row : row + 1],
            leaks=assessment.leaks.rows(np.array([row])),
        )
        alone = rich.row_units(one, float(surcharge[row]), frequent[row : row + 1], float(group[row]))
        assert alone[0] == pytest.approx(together[row])
    calm = (surcharge == 1.0) & ((group == 1.0) | (assessment.rarest >= 0.1))
    assert np.array_equal(together[calm], assessment.factors[calm])


def test_a_thief_is_suspected_and_an_honest_caller_is_not(rich, make_thief, count_in):
    """End to end: the verdict on an account after rows of the rarest cell, and after rows as all traffic has them."""
    thief = make_thief(rich, Caller("key:mallory"), 60)
    verdict = rich.verdict(thief)
    assert verdict.suspected
    assert verdict.frequent[0]
    assessment = rich.assess(leaks_of(rich, [[30.0, 30.0]]), np.random.default_rng(0))
    assert work_of(rich, assessment, thief).seconds >= 50.0 * assessment.factors[0] * 0.01
    honest = count_in(rich, new_account(rich, Caller("key:alice")), rich.calibration.kinds[0].counts)
    assert not rich.verdict(honest).suspected


@pytest.mark.parametrize("groups", [False, True])
def test_an_account_kept_under_another_tariff_is_refused(tariff, groups, count_in):
    account = count_in(tariff, new_account(tariff, Caller("key:alice")), [0, 0])
    if groups:
        account = dataclasses.replace(new_account(tariff, Caller("key:alice")), groups=(account,))
    with pytest.raises(CalibrationError, match="belongs to another tariff"):
        tariff.verdict(account)


OWN = "5f0c"  # the caller whose log is a kind of ``rich``


def test_the_kind_of_a_callers_own_log_changes_no_other_callers_price(rich, make_thief):
    """Neither prices of rows, nor cells, nor verdicts."""
    kinds = tuple(kind for kind in rich.calibration.kinds if kind.role != CALLER)
    without = ConformalTariff(dataclasses.replace(rich.calibration, kinds=kinds))
    rng = np.random.default_rng(8)
    leaks = leaks_of(rich, rng.lognormal(size=(100, 2)), rng.integers(0, 8, 100))
    assessment, other = (each.assess(leaks, np.random.default_rng(0)) for each in (rich, without))
    for part in ("factors", "rarest", "cells"):
        assert np.array_equal(getattr(assessment, part), getattr(other, part))
    for rows in (0, 60):
        account = make_thief(rich, Caller("key:bob"), rows)
        verdict, expected = rich.verdict(account, "another pseudonym"), without.verdict(account)
        assert (verdict.surcharge, verdict.log_evidence, verdict.own_kind) == (
            expected.surcharge,
            expected.log_evidence,
            "",
        )
        assert rich.work(assessment, account, verdict) == without.work(other, account, expected)


def test_a_caller_with_a_log_of_its_own_pays_by_it_and_never_more(rich):
    kind = rich.own_kind(OWN)
    assert (kind.name, kind.role) == (OWN, CALLER)
    assert rich.own_kind("another pseudonym") is None
    account = new_account(rich, Caller("key:carol"))
    verdict = rich.verdict(account, OWN)
    assert verdict.own_kind == OWN
    rng = np.random.default_rng(9)
    leaks = leaks_of(rich, 3.0 * rng.lognormal(size=(500, 2)))
    assessment = rich.assess(leaks, rng)
    own = rich.for_own_kind(assessment, OWN)
    assert (own.factors <= assessment.factors).all()
    assert (own.rarest >= assessment.rarest).all()
    assert own.factors.mean() <= 1.0 < assessment.factors.mean()
    assert rich.work(assessment, account, verdict).seconds == pytest.approx(0.01 * own.factors.sum())
    assert rich.for_own_kind(assessment, "") is assessment


def test_the_mean_price_of_a_callers_own_rows_is_at_most_one(make_calibration):
    """Exact: any of the n + 1 exchangeable rows of its log may be the new one, with strangers priced as well."""
    rng = np.random.default_rng(10)
    calibration = make_calibration(rng.lognormal(size=(2, 300)))
    counts, log = np.zeros(calibration.cells.count, np.int64), np.floor(4.0 * rng.lognormal(1.5, size=(41, 2))) / 4.0
    counts[0] = 40
    strangers = (FittedStranger("photographs", counts),)
    paid = []
    for new in range(len(log)):
        own = FittedKind(OWN, CALLER, counts, np.sort(np.delete(log, new, axis=0).T, axis=1))
        tariff = ConformalTariff(
            dataclasses.replace(calibration, kinds=(calibration.kinds[0], own), strangers=strangers)
        )
        assessment = tariff.assess(leaks_of(tariff, log[new : new + 1]), np.random.default_rng(0))
        paid.append(tariff.for_own_kind(assessment, OWN).factors[0])
    assert np.mean(paid) <= 1.0 + 1e-9


@pytest.mark.parametrize(
    "terms",
    [
        {"g": 0.7},
        {"unit_seconds": 0.02},
        {"weights": (0.4, 0.6)},
        {"suspicion": SuspicionTerms(alpha=1e-4, maximum=10.0, rare_below=0.3)},
        {"new_account_toll": NewAccountToll(keyed_units=1.0)},
    ],
)
def test_other_prices_for_the_same_counts_keep_the_identity(calibration, terms):
    """A caller's counts outlive a change of g, weights, unit, surcharge or new-account toll."""
    assert dataclasses.replace(calibration, **terms).identity == calibration.identity


def test_the_identity_changes_with_whatever_counts_mean(rich):
    calibration = rich.calibration
    scores = calibration.scores.copy()
    scores[0, 0] /= 2.0
    others = (
        {"model": "other"},
        {"measures": ("measure 0", "other"), "coordinates": ("measure 0", "other")},
        {"scores": scores},
        {"coordinates": ("measure 1", "measure 0")},
        {"kinds": calibration.kinds[:-1]},
        {"kinds": (*calibration.kinds[:-1], dataclasses.replace(calibration.kinds[-1], name="another"))},
        {"strangers": calibration.strangers[:1]},
        {"suspicion": SuspicionTerms(rho=0.5)},
        {"suspicion": SuspicionTerms(rho0=0.05)},
    )
    identities = {dataclasses.replace(calibration, **changes).identity for changes in others}
    assert len(identities - {calibration.identity}) == len(others)


def test_a_row_at_one_half_is_not_rare(make_calibration):
    """Of 599 honest scores 299 are at or above it: p is 0.5 exactly, and suspicion leaves it alone."""
    tariff = ConformalTariff(make_calibration([np.arange(599.0)]))
    account = new_account(tariff, Caller("key:mallory"))
    verdict = Verdict(surcharge=100.0, log_evidence=30.0, frequent=np.zeros(tariff.cell_count, np.bool_))
    middling, rare = (tariff.assess(leaks_of(tariff, [[leak]]), np.random.default_rng(0)) for leak in (300.0, 301.0))
    assert middling.rarest[0] == 0.5
    assert tariff.work(middling, account, verdict).rows_seconds == pytest.approx(0.01 * middling.factors[0])
    assert tariff.work(rare, account, verdict).rows_seconds == pytest.approx(1.0 * max(1.0, rare.factors[0]))


@settings(deadline=None)
@given(st.integers(1, 32), st.integers(1, 3), st.integers(0, 2**32 - 1), st.booleans(), st.booleans())
def test_few_rows_are_assessed_bit_for_bit_as_many_are(make_calibration, add_kinds, rows, measures, seed, ties, kinds):
    """The code for small requests equals the code for arrays: prices, p-values, cells and random numbers used."""
    rng = np.random.default_rng(seed)
    draw = (lambda *shape: rng.integers(0, 6, shape) / 5.0) if ties else (lambda *shape: rng.lognormal(size=shape))
    weights = rng.dirichlet(np.ones(measures))
    calibration = make_calibration(np.sort(draw(measures, 40), axis=1), weights=tuple(weights.tolist()))
    tariff = ConformalTariff(add_kinds(calibration, seed) if kinds else calibration)
    values, classes = draw(rows, measures), rng.integers(0, 8, rows + 33)
    few = tariff.assess(Leaks(tariff.measures, values, classes[:rows]), np.random.default_rng(1))
    padded = np.concatenate([values, draw(33, measures)])
    many = tariff.assess(Leaks(tariff.measures, padded, classes), np.random.default_rng(1))
    for part in ("factors", "rarest", "cells"):
        assert np.array_equal(getattr(few, part), getattr(many, part)[:rows]), part
        assert getattr(few, part).dtype == getattr(many, part).dtype


def test_no_rows_are_assessed_in_the_shapes_of_many(rich):
    leaks = leaks_of(rich, np.empty((0, 2)), np.empty(0, np.int64))
    assessment = rich.assess(leaks, np.random.default_rng(0))
    assert assessment.factors.shape == assessment.rarest.shape == assessment.cells.shape == (0,)
    assert assessment.cells.dtype == np.int64
    assert rich.for_own_kind(assessment, OWN).factors.shape == (0,)
    assert rich.row_units(assessment, 9.0, np.zeros(0, np.bool_), 2.0).shape == (0,)


def test_p_values_by_kind_are_those_among_each(rich):
    rng = np.random.default_rng(11)
    leaks = leaks_of(rich, rng.lognormal(size=(20, 2)), rng.integers(0, 8, 20))
    by_kind = rich.p_values_by_kind(leaks)
    assert rich.row_prices.kind_names == ("all traffic", "blur", "dark")
    unpriced = ~np.isin(leaks.classes, [3, 5, 6])
    assert np.array_equal(rich.p_values(leaks)[unpriced], np.max(by_kind, axis=0)[unpriced])
    assert (rich.p_values(leaks) >= np.max(by_kind, axis=0)).all()


def test_the_factor_at_a_p_value_is_that_of_a_row_with_it(make_calibration, rich):
    tariff = ConformalTariff(make_calibration([np.arange(1.0, 1000.0)] * 2))
    for rank in (1, 7, 300, 1000):
        row = leaks_of(tariff, [[1000.5 - rank] * 2])
        assert tariff.factor_at(rank / 1000) == pytest.approx(tariff.factors(row)[0])
    assert rich.factor_at(1e-4) > rich.factor_at(0.9)
