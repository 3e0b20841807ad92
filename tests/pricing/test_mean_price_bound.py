"""The bound on honest prices holds for any choice of g from the past, and with fillers, repeated rows and others."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeltoll.pricing.conformal_tariff import ConformalTariff
from modeltoll.records import Caller, Leaks
from modeltoll.simulation.batch_tariffs import ConformalBatchTariff
from modeltoll.simulation.p_value_mixture import PValueMixture, leaks_at
from modeltoll.simulation.traffic import Rows, Traffic, mixed_with_fillers, one_account

EXPONENTS = np.array([0.05, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95])
STOLEN = 300


def factors(p_values):
    """The factors for every g in EXPONENTS, (exponents, rows)."""
    return (1.0 - EXPONENTS[:, None]) * p_values ** -EXPONENTS[:, None]


@settings(max_examples=40)
@given(
    st.integers(2, 40),
    st.lists(st.lists(st.integers(0, len(EXPONENTS) - 1), min_size=3, max_size=3), min_size=3, max_size=3),
)
def test_any_choice_of_g_that_looks_at_the_past_keeps_the_mean_exactly(honest, rule):
    """All pairs of p-values of two honest rows: the first's third chooses the g of the second, by any rule."""
    p_values = np.arange(1, honest + 2) / (honest + 1)
    every = factors(p_values)
    total = 0.0
    for place, p_value in enumerate(p_values):
        first = every[rule[0][0], place]
        second = every[rule[1][min(2, int(3 * p_value))]].mean()
        total += (first + second) / 2
    assert total / len(p_values) <= 1.0 + 1e-12


@pytest.mark.parametrize("greed", [1.0, -1.0])
def test_the_g_with_the_highest_recent_price_keeps_the_mean_on_finite_calibrations(greed):
    """200 calibrations of 500 rows, 6,000 honest rows each, g chosen anew every 300 rows as the best (worst) of the last."""
    means = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        scores = np.sort(rng.random(500))
        p_values = (1 + 500 - np.searchsorted(scores, rng.random(6_000))) / 501
        blocks = factors(p_values).reshape(len(EXPONENTS), -1, 300).mean(axis=2)
        chosen = np.concatenate([[4], (greed * blocks[:, :-1]).argmax(axis=0)])
        means.append(blocks[chosen, np.arange(blocks.shape[1])].mean())
    assert np.mean(means) <= 1.0 + 3.0 * np.std(means) / np.sqrt(len(means))


@pytest.fixture(scope="module")
def toll(make_calibration):
    """A tariff of 3,000 rows without ties."""
    return ConformalBatchTariff(ConformalTariff(make_calibration([np.arange(1.0, 3001.0)])), ("measure 0",))


def stolen_price(toll, fillers, each, repeated):
    """Units per stolen row of a thief whose rows' p are uniform on (0, 0.1), behind fillers of that distribution."""
    rng = np.random.default_rng(3)
    scores = toll.tariff.calibration.scores
    stolen = Rows(leaks_at(scores, 0.1 * rng.random(STOLEN)))
    drawn = Rows(leaks_at(scores, fillers.draw(STOLEN * each, rng)))
    traffic = mixed_with_fillers(stolen, drawn, repeated=repeated) if each else one_account(stolen)
    charged = toll.charge(traffic, Caller("key:thief"), np.random.default_rng(4))
    return charged.seconds.sum() / toll.tariff.calibration.unit_seconds / STOLEN, charged.suspected


POINT = PValueMixture(((1.0, 1.0, 1.0),))


@settings(max_examples=40)
@given(st.floats(0.0, 1.0), st.floats(0.0, 0.15), st.integers(1, 8), st.booleans())
def test_fillers_of_one_kind_never_make_a_stolen_row_cheaper(toll, low, width, each, repeated):
    """Repeated, jittered, easy, middling or rare fillers: whatever lies within 0.15 of one p, one to eight per row."""
    undiluted, _ = stolen_price(toll, POINT, 0, repeated=False)
    band = PValueMixture(((1.0, low, min(1.0, low + width)),))
    diluted_price, _ = stolen_price(toll, band, each, repeated)
    assert diluted_price >= 0.8 * undiluted


@pytest.mark.parametrize(("low", "few", "many"), [(0.0, 4, 40), (0.1, 2, 16)])
def test_fillers_that_imitate_honest_rows_get_under_the_tolerance_and_only_under_it(toll, low, few, many):
    """The exception that the design names: they need honest rows that the account has not sent, and pay for them.

    A tenth of honest rows have p below 0.1, and all stolen ones. With 40 fillers of any p their density there is 1.22 times
    the honest one, with 16 of larger p 0.6 times, each below 1 + rho; with 4 it is 2.8, with 2 of larger p 3.3.
    """
    undiluted, _ = stolen_price(toll, POINT, 0, repeated=False)
    imitation = PValueMixture(((1.0, low, 1.0),))
    assert stolen_price(toll, imitation, few, repeated=False)[1][-1], "too few fillers"
    price, suspected = stolen_price(toll, imitation, many, repeated=False)
    assert not suspected.any()
    assert price < 0.8 * undiluted
    assert price > 1.0, "the row's own price is the floor"


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=30), st.integers(0, 200))
def test_rows_seen_before_change_no_price(toll, p_values, copies):
    """A caller's later rows cost the same whether or not it repeats an old row any number of times in between."""
    leaks = leaks_at(toll.tariff.calibration.scores, np.array(p_values))
    again = np.concatenate([leaks, np.repeat(leaks[:1], copies, axis=0), leaks[::-1]])
    fresh = np.concatenate([np.ones(len(leaks), bool), np.zeros(copies, bool), np.ones(len(leaks), bool)])
    account = np.zeros(len(again), np.int64)
    kept = np.concatenate([np.arange(len(leaks)), np.arange(len(leaks) + copies, len(again))])
    cells = toll.tariff.assess(Leaks(toll.tariff.measures, again), np.random.default_rng(0)).cells
    evidence = toll.tariff.suspicion.running(cells, account, fresh).log_evidence
    without = toll.tariff.suspicion.running(cells[kept], account[kept], fresh[kept]).log_evidence
    assert np.allclose(evidence[kept], without, atol=1e-9)


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0.0, 1.0)), min_size=1, max_size=80))
def test_no_caller_can_raise_anothers_price(toll, rows):
    """What each account pays among others is what it pays alone."""
    accounts = np.array([account for account, _ in rows])
    leaks = leaks_at(toll.tariff.calibration.scores, np.array([p_value for _, p_value in rows]))
    every = np.ones(len(rows), bool)
    assessment = toll.tariff.assess(Leaks(toll.tariff.measures, leaks), np.random.default_rng(0))
    running = toll.tariff.suspicion.running
    together = running(assessment.cells, accounts, every).log_evidence
    for account in set(accounts.tolist()):
        own = accounts == account
        alone = running(assessment.cells[own], accounts[own], every[own]).log_evidence
        assert np.allclose(together[own], alone, atol=1e-9)


def test_the_simulators_charge_is_additive_over_units(toll):
    """Twice the unit, twice the seconds: nothing else enters."""
    leaks = leaks_at(toll.tariff.calibration.scores, np.linspace(0.0, 1.0, 50))
    double = ConformalBatchTariff(
        ConformalTariff(dataclasses.replace(toll.tariff.calibration, unit_seconds=0.02)), toll.recorded
    )
    traffic = Traffic(leaks, np.zeros(50, np.int64), np.ones(50, bool), np.ones(50, bool))
    one, two = (each.charge(traffic, Caller("net:x"), np.random.default_rng(1)).seconds for each in (toll, double))
    assert np.allclose(2 * one, two)
