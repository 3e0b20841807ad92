"""Suspicion: honest callers are not suspected, thieves are."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeltoll.errors import CalibrationError
from modeltoll.pricing.conformal_tariff import ConformalTariff
from modeltoll.pricing.suspicion import Suspicion, SuspicionTerms, bin_edges
from modeltoll.records import Leaks


def histories(bins, count):
    """Running counts after each row: bins (..., rows, measures) -> (..., rows, measures, count)."""
    return np.cumsum(bins[..., None] == np.arange(count), axis=-3, dtype=np.float64)


def drawn(rng, chances, shape):
    """Random bins by their probabilities."""
    return np.searchsorted(np.cumsum(chances)[:-1], rng.random(shape))


def ever_suspected(suspicion, bins):
    """Whether each caller is suspected after any of its rows; bins (callers, rows, measures)."""
    return np.array([(suspicion.surcharge(histories(rows, suspicion.bin_count)) > 1.0).any() for rows in bins])


def at_most(alpha, callers):
    """The most suspects among honest callers that a true rate of alpha explains: three standard errors."""
    return alpha * callers + 3.0 * math.sqrt(alpha * callers)


def test_bins_are_those_of_the_design():
    assert bin_edges(10**6) == (0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.97, 0.99, 1)


@given(st.integers(1, 10**6))
def test_no_bin_is_narrower_than_the_resolution_of_p_values(honest):
    edges = bin_edges(honest)
    assert edges[0] == 0.0
    assert edges[-1] == 1.0
    assert min(np.diff(edges)) >= 1.0 / (honest + 1) - 1e-15


@given(st.lists(st.tuples(st.floats(0.0, 1.0), st.floats(0.0, 1.0)), min_size=1, max_size=60), st.integers(1, 5000))
def test_evidence_from_counts_is_evidence_multiplied_up_row_by_row(p_values, honest):
    """The Dirichlet predictive chance of each row's bin over its width, per measure; their mean; less the tolerance."""
    suspicion = Suspicion(honest, SuspicionTerms(rho=0.25))
    widths = np.diff(suspicion.edges)
    prior = 0.5 * suspicion.bin_count * widths + 0.02
    bins = suspicion.bins_of(np.array(p_values))
    products = np.zeros(2)
    for measure in range(2):
        seen = prior.copy()
        for place in bins[:, measure]:
            products[measure] += math.log(seen[place] / seen.sum() / widths[place])
            seen[place] += 1.0
    counts = histories(bins, suspicion.bin_count)[-1]
    assert np.allclose(suspicion.log_bayes_factors(counts), products, atol=1e-8)
    mean = math.log(np.mean(np.exp(products - products.max()))) + products.max()
    assert suspicion.log_evidence(counts) == pytest.approx(mean - len(bins) * math.log(1.25), abs=1e-8)


def test_many_histograms_at_once_give_what_each_gives_alone():
    suspicion = Suspicion(1000, SuspicionTerms())
    counts = np.random.default_rng(0).gamma(
        1.0, 20.0, size=(3, 4, 2, suspicion.bin_count)
    )  # fractional, as faded ones are
    surcharges = suspicion.surcharge(counts)
    assert surcharges.shape == (3, 4)
    for place in np.ndindex(3, 4):
        assert suspicion.surcharge(counts[place]) == pytest.approx(surcharges[place], rel=1e-12)


@given(st.lists(st.floats(0.0, 1e6), min_size=14, max_size=14), st.floats(1.0, 1e6))
def test_the_surcharge_is_the_root_of_the_evidence_between_one_and_its_maximum(counts, maximum):
    suspicion = Suspicion(5000, SuspicionTerms(maximum=maximum))
    histogram = np.array([counts])
    log_evidence = float(suspicion.log_evidence(histogram))
    surcharge = float(suspicion.surcharge(histogram))
    if log_evidence < math.log(1e6):
        assert surcharge == 1.0
    else:
        assert math.log(surcharge) == pytest.approx(min(math.log(maximum), 0.5 * (log_evidence - math.log(1e6))))


@given(st.lists(st.lists(st.floats(0.0, 1e6), min_size=14, max_size=14), min_size=1, max_size=3))
def test_plain_numbers_hold_the_same_evidence_as_arrays(counts):
    suspicion = Suspicion(5000, SuspicionTerms())
    expected = float(suspicion.log_evidence(np.array(counts)))
    assert suspicion.log_evidence_of(counts) == pytest.approx(expected, rel=1e-9, abs=1e-6)


def test_without_rows_there_is_no_evidence():
    suspicion = Suspicion(5000, SuspicionTerms())
    assert suspicion.log_evidence_of([[0.0] * suspicion.bin_count]) == pytest.approx(0.0, abs=1e-12)
    assert suspicion.log_evidence(np.zeros((2, suspicion.bin_count))) == pytest.approx(0.0, abs=1e-12)


def test_honest_callers_are_ever_suspected_with_chance_alpha_at_most():
    """2,000 callers of 2,000 rows, no tolerance to help them: Ville's inequality alone."""
    suspicion = Suspicion(5000, SuspicionTerms(alpha=0.01, rho=0.0))
    rng = np.random.default_rng(11)
    bins = drawn(rng, np.diff(suspicion.edges), (2000, 2000, 1))
    assert ever_suspected(suspicion, bins).sum() <= at_most(0.01, 2000)


@pytest.mark.parametrize("favoured", [slice(0, 7), slice(7, 14), slice(0, 14, 2)])
def test_callers_within_the_tolerance_are_as_honest(favoured):
    """1.25 times as many rows in half of the bins, whichever: no more than alpha of such callers are suspected."""
    suspicion = Suspicion(5000, SuspicionTerms(alpha=0.01, rho=0.25))
    chances = np.diff(suspicion.edges)
    raised = np.zeros(14, dtype=bool)
    raised[favoured] = True
    chances[raised] *= 1.25
    chances[~raised] *= (1.0 - chances[raised].sum()) / chances[~raised].sum()
    assert chances.sum() == pytest.approx(1.0)
    bins = drawn(np.random.default_rng(12), chances, (600, 1000, 1))
    assert ever_suspected(suspicion, bins).sum() <= at_most(0.01, 600)


def test_honest_callers_are_not_suspected_through_one_calibration_of_600_rows(make_calibration):
    """The rows of many callers are priced against one finite calibration, with dependent and tied measures."""
    rng = np.random.default_rng(13)

    def rows(count):
        first = rng.lognormal(size=count)
        return np.stack([first, np.floor(first + rng.random(count))], axis=1)

    tariff = ConformalTariff(make_calibration(rows(600).T, suspicion=SuspicionTerms(alpha=0.01)))
    bins = tariff.assess(Leaks(tariff.measures, rows(300 * 1000)), rng).bins.reshape(300, 1000, 2)
    assert ever_suspected(tariff.suspicion, bins).sum() <= at_most(0.01, 300)


def test_an_honest_caller_of_100_000_rows_is_never_suspected():
    suspicion = Suspicion(5000, SuspicionTerms())
    bins = drawn(np.random.default_rng(14), np.diff(suspicion.edges), (3, 100_000, 2))
    assert not ever_suspected(suspicion, bins).any()


def test_a_thief_among_the_rarest_tenth_is_suspected_within_40_rows():
    """p uniform on (0, 0.1), alpha one in a million: each of 500 thieves, and each stays suspected."""
    suspicion = Suspicion(5000, SuspicionTerms())
    p_values = 0.1 * np.random.default_rng(15).random((500, 60, 2))
    surcharges = suspicion.surcharge(histories(suspicion.bins_of(p_values), suspicion.bin_count))
    assert (surcharges[:, 39:] > 1.0).all()
    assert (np.diff(surcharges[:, 39:], axis=1) >= 0.0).mean() > 0.9


def test_easy_fillers_are_evidence_too():
    """A thief who hides each stolen row behind eight rows of p = 1 is suspected for the fillers."""
    suspicion = Suspicion(5000, SuspicionTerms())
    counts = np.zeros((1, suspicion.bin_count))
    counts[0, 2], counts[0, -1] = 50.0, 400.0
    assert suspicion.surcharge(counts) == pytest.approx(100.0)


@pytest.mark.parametrize(
    "terms", [{"alpha": 0.0}, {"alpha": math.nan}, {"rho": -0.1}, {"maximum": 0.5}, {"rare_below": 1.5}]
)
def test_terms_out_of_range_are_refused_by_name(terms):
    with pytest.raises(CalibrationError, match=f"'suspicion.{next(iter(terms))}'"):
        SuspicionTerms(**terms)
