"""The adaptive g: it finds the g with the highest mean price, and keeps the bound on honest prices."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from modeltoll.pricing.adaptive_g import CHOICES, ENOUGH_ROWS, HALF_LIFE, AdaptiveG
from modeltoll.pricing.conformal_tariff import ConformalTariff
from modeltoll.records import Leaks

N = 3000


@pytest.fixture(scope="module")
def tariff(make_calibration):
    """One measure of distinct scores, g = 0.8."""
    return ConformalTariff(make_calibration([np.arange(1.0, N + 1.0)], weights=(1.0,)))


def assessed(tariff, p_values, seed=0):
    leaks = ((1.0 - np.asarray(p_values)) * (N + 1.0))[:, None]
    return tariff.assess(Leaks(tariff.measures, leaks), np.random.default_rng(seed))


def test_the_chosen_tariff_prices_as_one_fitted_at_that_g(rich):
    """With kinds, classes and strangers; the bins of p are those of the largest g."""
    adaptive = AdaptiveG(rich)
    rng = np.random.default_rng(1)
    middling = np.quantile(rich.calibration.kinds[1].scores, rng.uniform(0.8, 0.9, (2000, 2)))
    leaks = Leaks(rich.measures, middling, rng.integers(0, 8, 2000))
    adaptive.add(names(0, 2000), rich.assess(leaks, rng), 0.0)
    assert adaptive.g == 0.5
    fitted = ConformalTariff(dataclasses.replace(rich.calibration, g=0.5), 0.9)
    assert np.array_equal(adaptive.tariff.factors(leaks), fitted.factors(leaks))
    few = Leaks(rich.measures, leaks.values[:3], leaks.classes[:3])
    assert np.array_equal(adaptive.tariff.assess(few, rng).factors, fitted.factors(few))


def names(start, rows):
    return [number.to_bytes(8, "big") for number in range(start, start + rows)]


def test_at_first_the_operators_own_is_in_force(tariff):
    adaptive = AdaptiveG(tariff)
    assert adaptive.tariff.identity == tariff.identity
    assert adaptive.g == tariff.calibration.g == 0.8
    adaptive.add(names(0, 500), assessed(tariff, np.full(500, 1e-4)), 0.0)
    assert adaptive.g == 0.8, "so few rows change nothing"


@pytest.mark.parametrize(("p", "g"), [(0.0001, {0.9}), (0.006, {0.8}), (0.08, {0.6, 0.7}), (0.15, {0.5})])
def test_it_takes_the_g_with_the_highest_mean_price(tariff, p, g):
    """Rows of one p cost most, (1 - g) p^(-g), at g = 1 + 1 / ln p, up to the resolution of the bins."""
    adaptive = AdaptiveG(tariff)
    adaptive.add(names(0, 2000), assessed(tariff, np.full(2000, p)), 0.0)
    assert adaptive.g in g


def test_prices_at_all_choices_of_g_show_no_more_of_a_row_than_its_one_bin(tariff):
    """Rows with the same price at one g have the same price at every g."""
    adaptive = AdaptiveG(tariff)
    p_values = np.arange(1, N + 2) / (N + 1)
    prices = []
    for place, p in enumerate((1e-4, 0.006, 0.08, 0.15)):
        adaptive.add(names(10_000 * place, 10_000), assessed(tariff, np.full(10_000, p)), 20 * place * HALF_LIFE)
        prices.append(assessed(adaptive.tariff, p_values - 0.5 / (N + 1)).factors)
    of_all = {tuple(row) for row in np.column_stack(prices).tolist()}
    assert len({len(np.unique(column)) for column in prices}) == 1
    assert len(of_all) == len(np.unique(prices[0])) == np.floor(0.9 * np.log2(N + 1)) + 1


def test_repeated_rows_do_not_count_again_and_old_rows_decay(tariff):
    adaptive = AdaptiveG(tariff)
    for _ in range(5):
        adaptive.add(names(0, 900), assessed(tariff, np.full(900, 0.15)), 0.0)
    assert adaptive.g == 0.8
    adaptive.add(names(900, 1000), assessed(tariff, np.full(1000, 0.15)), 0.0)
    assert adaptive.g == 0.5
    adaptive.add(names(1900, 1100), assessed(tariff, np.full(1100, 1e-4)), 20 * HALF_LIFE)
    assert adaptive.g == 0.9


def test_counts_mean_the_same_at_every_g(tariff):
    adaptive = AdaptiveG(tariff)
    adaptive.add(names(0, 2000), assessed(tariff, np.full(2000, 1e-4)), 0.0)
    assert adaptive.g != tariff.calibration.g
    assert (adaptive.tariff.identity, adaptive.tariff.cell_count) == (tariff.identity, tariff.cell_count)


def test_honest_rows_pay_one_unit_at_most_whatever_was_chosen_from_the_past(make_calibration):
    """Calibrations drawn anew, honest rows among a thief's whose traffic comes and goes: g changes, the mean does not."""
    rng, paid, chosen = np.random.default_rng(5), [], set()
    for run in range(150):
        tariff = ConformalTariff(make_calibration([np.sort(rng.normal(10.0, 1.0, 1000))], weights=(1.0,)))
        adaptive, start = AdaptiveG(tariff), 0
        for step in range(12):
            thief = 10.0 + (1.0 if run % 2 else 4.0) * (step % 3 == 0) + rng.normal(size=200)
            leaks = np.concatenate([rng.normal(10.0, 1.0, 200), thief])[:, None]
            assessment = adaptive.tariff.assess(Leaks(tariff.measures, leaks), rng)
            paid.append(assessment.factors[:200].mean())
            adaptive.add(names(start, 400), assessment, 0.0)
            start += 400
            chosen.add(adaptive.g)
    assert start > ENOUGH_ROWS
    assert len(chosen) > 1
    assert chosen <= {*CHOICES}
    assert np.mean(paid) <= 1.0 + 3.0 * np.std(paid) / np.sqrt(len(paid))
