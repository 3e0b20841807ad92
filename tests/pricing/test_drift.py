"""The cells of all traffic: they detect drift, count each input once, and decay."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeltoll.pricing.conformal_tariff import ConformalTariff
from modeltoll.pricing.drift import HALF_LIFE, REMEMBERED, DriftDetector, concatenated
from modeltoll.pricing.kinds import DECLARED, FittedKind
from modeltoll.records import Leaks


@pytest.fixture(scope="module")
def tariff(make_calibration):
    """Two measures of 3,000 rows, without ties."""
    return ConformalTariff(make_calibration([np.arange(1.0, 3001.0)] * 2, weights=(0.75, 0.25)))


def names(start, rows):
    return tuple(number.to_bytes(8, "big") for number in range(start, start + rows))


def uniform(rng, rows):
    return rng.random((rows, 2))


def traffic(tariff, p_values, seed=0):
    """The assessment of rows with these p-values (rows, 2)."""
    return tariff.assess(Leaks(tariff.measures, (1.0 - p_values) * 3001.0), np.random.default_rng(seed))


def test_before_any_row_nothing_has_drifted(tariff):
    reading = DriftDetector(tariff).reading()
    assert (reading.rows, reading.mean_units, reading.drifted) == (0.0, 0.0, False)
    assert reading.log_evidence == pytest.approx(0.0, abs=1e-9)
    assert reading.shares.shape == (tariff.cell_count,)


@pytest.mark.parametrize("seed", range(3))
def test_honest_traffic_costs_one_unit_at_most_and_is_not_drift(tariff, seed):
    drift, rng = DriftDetector(tariff), np.random.default_rng(seed)
    factors = []
    for start in range(0, 50_000, 5_000):
        assessment = traffic(tariff, uniform(rng, 5_000))
        drift.add(names(start, 5_000), assessment, 0.0)
        factors.append(assessment.factors.mean())
    reading = drift.reading()
    assert reading.rows == 50_000
    assert not reading.drifted
    assert reading.shares.sum() == pytest.approx(1.0)
    assert reading.shares == pytest.approx(tariff.cells.widths, abs=0.01)
    assert reading.mean_units == pytest.approx(np.mean(factors))
    assert 0.8 < reading.mean_units < 1.05


def test_rows_that_leak_more_within_their_cells_are_drift_by_their_mean_price(make_calibration):
    """In no cell are there a quarter more rows than of honest callers, but those of rare cells are the rarest of them."""
    tariff = ConformalTariff(make_calibration([np.arange(1.0, 20_001.0)]))
    edges = np.array(tariff.cells.edges[0])
    rare = np.repeat(edges[:5] + 1.5 / 20_001, np.rint(1.2 * 20_000 * np.diff(edges)[:5]).astype(int))
    p_values = np.append(rare, np.linspace(0.1001, 1.0, 20_000 - len(rare)))
    leaks = Leaks(tariff.measures, ((1.0 - p_values) * 20_001)[:, None])
    drift = DriftDetector(tariff)
    drift.add(names(0, 20_000), tariff.assess(leaks, np.random.default_rng(0)), 0.0)
    reading = drift.reading()
    assert reading.log_evidence < 0.0
    assert reading.mean_units > 1.3
    assert reading.drifted


def test_traffic_of_another_kind_is_drift_within_a_hundred_rows_and_of_a_declared_kind_is_not(tariff):
    p_values = 0.1 * uniform(np.random.default_rng(0), 100)
    drift = DriftDetector(tariff)
    drift.add(names(0, 100), traffic(tariff, p_values), 0.0)
    assert drift.reading().log_evidence > drift.reading().log_threshold
    assert drift.reading().drifted
    cells = traffic(tariff, 0.1 * uniform(np.random.default_rng(1), 3000)).cells
    dark = FittedKind("dark", DECLARED, np.bincount(cells, minlength=tariff.cell_count))
    known = ConformalTariff(dataclasses.replace(tariff.calibration, kinds=(*tariff.calibration.kinds, dark)))
    drift = DriftDetector(known)
    drift.add(names(0, 100), traffic(known, p_values), 0.0)
    assert drift.reading().log_evidence < 0.0


def test_an_input_counts_once_until_it_is_dropped(tariff):
    drift, two = DriftDetector(tariff), traffic(tariff, np.full((2, 2), 0.5))
    assert drift.add((b"a", b"a"), two, 0.0).sum() == 1
    assert drift.add((b"a", b"b"), two, 0.0).sum() == 1
    drift.add(names(0, REMEMBERED), traffic(tariff, np.full((REMEMBERED, 2), 0.5)), 0.0)
    assert drift.add((b"b", b"b"), two, 0.0).sum() == 1


@given(st.lists(st.tuples(st.floats(-3.0, 3.0), st.integers(1, 5)), min_size=1, max_size=20))
def test_counts_halve_with_each_half_life_and_never_grow_by_themselves(tariff, steps):
    drift, now, latest, expected, start = DriftDetector(tariff), 1e9, -np.inf, 0.0, 0
    for step, rows in steps:
        now += step * HALF_LIFE
        expected = expected * 0.5 ** max(0.0, (now - latest) / HALF_LIFE) + rows
        latest = max(latest, now)
        assessment = traffic(tariff, np.full((rows, 2), 0.5))
        drift.add(names(start, rows), assessment, now)
        start += rows
    assert drift.reading().rows == pytest.approx(expected)
    assert drift.reading().mean_units == pytest.approx(assessment.factors[0])


@pytest.mark.parametrize("known", [(True, True), (True, False)])
def test_requests_are_concatenated_row_by_row(rich, known):
    rng = np.random.default_rng(3)
    parts = []
    for rows, with_classes in zip((2, 40), known, strict=True):
        classes = rng.integers(0, 8, rows) if with_classes else None
        parts.append(rich.assess(Leaks(rich.measures, rng.lognormal(size=(rows, 2)), classes), rng))
    whole = concatenated(parts)
    for part in ("factors", "rarest", "cells"):
        assert np.array_equal(getattr(whole, part), np.concatenate([getattr(each, part) for each in parts]))
    assert whole.leaks.values.shape == (42, 2)
    assert (whole.leaks.classes is not None) == all(known)
    if all(known):
        assert np.array_equal(rich.factors(whole.leaks), whole.factors)
