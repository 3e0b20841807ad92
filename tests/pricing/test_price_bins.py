"""The bins of p: their mean price is at most one unit, and a price tells no more than a factor of two."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeltoll.pricing.price_bins import PriceBins

HONEST = st.one_of(st.sampled_from([1, 2, 25]), st.integers(1, 5000))
EXPONENTS = st.one_of(
    st.floats(0.0, 1.0, exclude_min=True, exclude_max=True), st.sampled_from([1e-9, 0.5, 0.8, 1.0 - 1e-9])
)


def exact(honest, g):
    """(1 - g) p^(-g) at p = k / (n + 1), k = 1..n+1."""
    return (1.0 - g) * (np.arange(1, honest + 2) / (honest + 1)) ** -g


@given(HONEST, EXPONENTS)
def test_the_factor_varies_at_most_twofold_in_a_bin_and_the_price_is_its_mean(honest, g):
    bins, factors = PriceBins.cut(honest, g), exact(honest, g)
    prices = bins.factors(g)
    assert prices.shape == (honest + 1,)
    for start, end in zip(bins.starts, [*bins.starts[1:], honest + 1], strict=True):
        assert factors[start] <= 2.0 * factors[end - 1] * (1.0 + 1e-12)
        assert len(set(prices[start:end].tolist())) == 1
        assert prices[start] == pytest.approx(factors[start:end].mean(), rel=1e-12)


@given(HONEST, EXPONENTS)
def test_the_sum_over_all_p_values_is_unchanged_and_at_most_one_each(honest, g):
    prices = PriceBins.cut(honest, g).factors(g)
    assert math.fsum(prices) == pytest.approx(math.fsum(exact(honest, g)), rel=1e-12)
    assert math.fsum(prices) / (honest + 1) <= 1.0 + 1e-12
    assert (np.diff(prices) <= 0.0).all()


@given(HONEST, EXPONENTS)
def test_there_are_few_prices(honest, g):
    assert len(set(PriceBins.cut(honest, g).factors(g).tolist())) <= 1 + math.floor(g * math.log2(honest + 1) + 1e-9)


@pytest.mark.parametrize(("honest", "g", "prices"), [(1, 0.8, 1), (25, 0.8, 4), (4_000, 0.8, 10), (60_000, 0.8, 13), (60_000, 0.98, 16)])  # fmt: skip
def test_calibrations_of_usual_sizes_have_at_most_20_prices(honest, g, prices):
    assert len(np.unique(PriceBins.cut(honest, g).factors(g))) == prices


@given(st.integers(2, 60), EXPONENTS, st.lists(st.integers(0, 5), min_size=1, max_size=60))
def test_tied_scores_keep_the_mean(honest, g, ties):
    """Exact: of n + 1 exchangeable scores each may be the new one; ties make p larger, and prices smaller."""
    scores = np.resize(np.array(ties), honest + 1)
    prices = PriceBins.cut(honest, g).factors(g)
    at_least = (scores[None, :] >= scores[:, None]).sum(axis=1) - 1  # other scores at or above each
    assert sum(map(Fraction, prices[at_least].tolist())) / (honest + 1) <= 1 + Fraction(1, 10**12)


@given(HONEST, EXPONENTS, st.floats(0.01, 1.0))
def test_at_a_smaller_exponent_the_same_bins_vary_less_and_keep_the_mean(honest, g, share):
    bins, smaller = PriceBins.cut(honest, g), g * share
    prices, factors = bins.factors(smaller), exact(honest, smaller)
    assert len(np.unique(prices)) <= len(bins.starts)
    assert (factors <= 2.0 * prices * (1.0 + 1e-12)).all()
    assert math.fsum(prices) == pytest.approx(math.fsum(factors), rel=1e-12)


@given(HONEST, EXPONENTS)
def test_the_bounds_of_a_bin_enclose_its_p_values(honest, g):
    bins = PriceBins.cut(honest, g)
    indices = np.arange(honest + 1)
    low, high = bins.bounds(indices)
    p_values = (indices + 1) / (honest + 1)
    assert ((low <= p_values) & (p_values <= high)).all()
    assert len(np.unique(low)) == len(bins.starts)
    assert (bins.factors(g)[np.rint(low * (honest + 1)).astype(int) - 1] == bins.factors(g)).all()
