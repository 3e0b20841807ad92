"""The histogram of all traffic: it detects drift, counts each input once, and decays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeltoll.pricing.conformal_tariff import ConformalTariff
from modeltoll.pricing.drift import HALF_LIFE, REMEMBERED, DriftDetector
from modeltoll.records import Leaks


@pytest.fixture(scope="module")
def tariff(make_calibration):
    """Two measures of 3,000 rows, without ties."""
    return ConformalTariff(make_calibration([np.arange(1.0, 3001.0)] * 2, weights=(0.75, 0.25)))


def names(start, rows):
    return tuple(number.to_bytes(8, "big") for number in range(start, start + rows))


def traffic(tariff, p_values):
    """Bins of rows with these p-values under both measures."""
    leaks = np.repeat((1.0 - p_values)[:, None] * 3001.0, 2, axis=1)
    return tariff.assess(Leaks(tariff.measures, leaks), np.random.default_rng(0)).bins


def test_before_any_row_nothing_has_drifted(tariff):
    drift = DriftDetector(tariff)
    reading = drift.reading()
    assert (reading.rows, reading.mean_units, reading.drifted) == (0.0, 0.0, False)
    assert reading.log_evidence == pytest.approx(0.0, abs=1e-9)
    assert reading.shares.shape == tariff.shape


@pytest.mark.parametrize("seed", range(5))
def test_honest_traffic_costs_one_unit_at_most_at_every_g_and_is_not_drift(tariff, seed):
    """Exactly the mean of the prices that there are, of which 3,000 rows give the rarest row p = 1 / 3001."""
    drift, rng = DriftDetector(tariff), np.random.default_rng(seed)
    for start in range(0, 50_000, 5_000):
        drift.add(names(start, 5_000), traffic(tariff, rng.random(5_000)), 0.0)
    reading = drift.reading()
    assert reading.rows == 50_000
    assert not reading.drifted
    assert reading.shares.sum(axis=1) == pytest.approx(1.0)
    for g in (0.1, 0.5, 0.8, 0.9):
        expected = ((1.0 - g) * (np.arange(1, 3002) / 3001) ** -g).mean()
        assert expected < 1.0
        assert drift.mean_price(g) == pytest.approx(expected, rel=0.1)
    assert reading.mean_units == drift.mean_price(0.8)


def test_honest_rows_that_leak_somewhat_more_are_drift_by_their_mean_price(tariff):
    """Three times as many rows below p = 0.1 as there should be: no single caller would be suspected, but the mean price shows it."""
    drift, rng = DriftDetector(tariff), np.random.default_rng(0)
    p_values = np.where(rng.random(20_000) < 0.3, 0.1 * rng.random(20_000), 0.1 + 0.9 * rng.random(20_000))
    drift.add(names(0, 20_000), traffic(tariff, p_values), 0.0)
    reading = drift.reading()
    assert reading.log_evidence < reading.log_threshold
    assert reading.mean_units > 1.3
    assert reading.drifted


def test_traffic_of_another_kind_is_drift_within_a_hundred_rows(tariff):
    drift = DriftDetector(tariff)
    drift.add(names(0, 100), traffic(tariff, 0.1 * np.random.default_rng(0).random(100)), 0.0)
    assert drift.reading().log_evidence > drift.reading().log_threshold
    assert drift.reading().drifted


def test_an_input_counts_once_until_it_is_dropped(tariff):
    drift = DriftDetector(tariff)
    bins = np.zeros((2, 2), np.int64)
    assert drift.add((b"a", b"a"), bins, 0.0).sum() == 2  # one row, two measures
    assert drift.add((b"a", b"b"), bins, 0.0)[:, 0].tolist() == [1, 1]
    drift.add(names(0, REMEMBERED), np.zeros((REMEMBERED, 2), np.int64), 0.0)
    assert drift.add((b"b",), bins[:1], 0.0).sum() == 2


@given(st.lists(st.tuples(st.floats(-3.0, 3.0), st.integers(1, 5)), min_size=1, max_size=20))
def test_counts_halve_with_each_half_life_and_never_grow_by_themselves(tariff, steps):
    drift, now, latest, expected, start = DriftDetector(tariff), 1e9, -np.inf, 0.0, 0
    for step, rows in steps:
        now += step * HALF_LIFE
        expected = expected * 0.5 ** max(0.0, (now - latest) / HALF_LIFE) + rows
        latest = max(latest, now)
        drift.add(names(start, rows), np.zeros((rows, 2), np.int64), now)
        start += rows
    assert drift.reading().rows == pytest.approx(expected)


SCORES = {
    "different": np.random.default_rng(1).gamma(1.0, size=450),
    "tied": np.random.default_rng(1).integers(0, 12, 450) / 4.0,
    "mostly nothing": np.random.default_rng(1).gamma(1.0, size=450).round(1) * (np.arange(450) % 3 == 0),
}


@pytest.mark.parametrize("kind", SCORES)
@pytest.mark.parametrize("g", [0.1, 0.8, 0.95])
def test_mean_prices_are_what_the_tariff_charges(make_calibration, kind, g):
    """Of rows like the calibration's, or like its rarer half, with few rows and with ties."""
    scores = SCORES[kind]
    tariff = ConformalTariff(make_calibration([scores], g=g))
    rng = np.random.default_rng(2)
    for pool in (scores, np.sort(scores)[225:]):
        drawn = rng.choice(pool, (40_000, 1))
        near = 1e-3 * rng.normal(size=drawn.shape) if kind == "different" else 0.0  # else they tie where they did not
        leaks = Leaks(tariff.measures, np.abs(drawn + near))
        assessment, drift = tariff.assess(leaks, rng), DriftDetector(tariff)
        drift.add(names(0, 40_000), assessment.bins, 0.0)
        assert drift.mean_price(g) == pytest.approx(assessment.factors.mean(), rel=0.08)


@given(st.floats(0.01, 0.99))
def test_traffic_like_the_calibration_costs_one_unit_at_most_at_every_g(tariff, g):
    even = np.diff(tariff.suspicion.edges)
    assert (tariff.mean_factors(g) @ even <= 1.0).all()
