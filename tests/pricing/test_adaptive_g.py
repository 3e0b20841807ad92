"""The g that an API chooses from its past: it finds what earns most, and breaks no promise."""

from __future__ import annotations

import numpy as np
import pytest

from modeltoll.pricing.adaptive_g import CHOICES, ENOUGH_ROWS, HALF_LIFE, AdaptiveG
from modeltoll.pricing.conformal import ConformalTariff
from modeltoll.records import Leaks

N = 3000


@pytest.fixture(scope="module")
def tariff(make_calibration):
    """One measure of distinct scores, g = 0.8."""
    return ConformalTariff(make_calibration([np.arange(1.0, N + 1.0)], weights=(1.0,)))


def assessed(tariff, p_values, seed=0):
    leaks = ((1.0 - np.asarray(p_values)) * (N + 1.0))[:, None]
    return tariff.assess(Leaks(tariff.measures, leaks), np.random.default_rng(seed))


def names(start, rows):
    return [number.to_bytes(8, "big") for number in range(start, start + rows)]


def test_at_first_the_operators_own_is_in_force(tariff):
    bend = AdaptiveG(tariff)
    assert bend.tariff is tariff
    bend.add(names(0, 500), assessed(tariff, np.full(500, 1e-4)).bins, 0.0)
    assert bend.g == 0.8, "so few rows change nothing"


@pytest.mark.parametrize(("p", "g"), [(0.0001, 0.9), (0.08, 0.6), (0.15, 0.5)])
def test_it_takes_the_g_that_earns_most_from_what_is_sent(tariff, p, g):
    """Rows of one p earn most, (1 - g) p^(-g), at g = 1 + 1 / ln p, as far as the bins tell p."""
    bend = AdaptiveG(tariff)
    bend.add(names(0, 2000), assessed(tariff, np.full(2000, p)).bins, 0.0)
    assert bend.g == g


def test_what_is_sent_again_does_not_count_again_and_what_is_old_fades(tariff):
    bend = AdaptiveG(tariff)
    for _ in range(5):
        bend.add(names(0, 900), assessed(tariff, np.full(900, 0.15)).bins, 0.0)
    assert bend.g == 0.8
    bend.add(names(900, 1000), assessed(tariff, np.full(1000, 0.15)).bins, 0.0)
    assert bend.g == 0.5
    bend.add(names(1900, 1100), assessed(tariff, np.full(1100, 1e-4)).bins, 20 * HALF_LIFE)
    assert bend.g == 0.9


def test_counts_mean_the_same_at_every_g(tariff):
    bend = AdaptiveG(tariff)
    bend.add(names(0, 2000), assessed(tariff, np.full(2000, 1e-4)).bins, 0.0)
    assert bend.g != tariff.calibration.g
    assert (bend.tariff.identity, bend.tariff.shape) == (tariff.identity, tariff.shape)


def test_honest_rows_pay_one_unit_at_most_whatever_was_chosen_from_the_past(make_calibration):
    """Calibrations drawn anew, honest rows among a thief's whose traffic comes and goes: g changes, the mean does not."""
    rng, paid, chosen = np.random.default_rng(5), [], set()
    for run in range(150):
        tariff = ConformalTariff(make_calibration([np.sort(rng.normal(10.0, 1.0, 1000))], weights=(1.0,)))
        bend, start = AdaptiveG(tariff), 0
        for step in range(12):
            thief = 10.0 + (1.0 if run % 2 else 4.0) * (step % 3 == 0) + rng.normal(size=200)
            leaks = np.concatenate([rng.normal(10.0, 1.0, 200), thief])[:, None]
            assessment = bend.tariff.assess(Leaks(tariff.measures, leaks), rng)
            paid.append(assessment.factors[:200].mean())
            bend.add(names(start, 400), assessment.bins, 0.0)
            start += 400
            chosen.add(bend.g)
    assert start > ENOUGH_ROWS
    assert len(chosen) > 1
    assert chosen <= {*CHOICES}
    assert np.mean(paid) <= 1.0 + 3.0 * np.std(paid) / np.sqrt(len(paid))
