"""The bins of p: their mean price is at most one unit for any number of rows, and a price tells no more than a factor of two."""

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


def p_values(honest):
    """k / (n + 1), k = 1..n+1."""
    return np.arange(1, honest + 2) / (honest + 1)


@given(HONEST, EXPONENTS)
def test_the_factor_varies_at_most_twofold_in_a_bin_and_the_price_lies_between(honest, g):
    bins, p = PriceBins.cut(honest, g), p_values(honest)
    places, prices, exact = bins.of(p), bins.factors(p, g), (1.0 - g) * p**-g
    for place in set(places.tolist()):
        inside = exact[places == place]
        assert inside.max() <= 2.0 * inside.min() * (1.0 + 1e-9)
        assert len(set(prices[places == place].tolist())) == 1
    assert (exact <= 2.0 * prices * (1.0 + 1e-9)).all()
    assert (prices <= 2.0 * exact * (1.0 + 1e-9)).all() or len(bins.prices(g)) == 1


@given(EXPONENTS.filter(lambda g: 0.05 < g < 0.95), st.integers(1, 200))
def test_the_price_of_a_bin_is_the_mean_of_the_formula_over_it(g, honest):
    bins = PriceBins.cut(honest, g)
    for upper, lower, price in zip(bins.edges, bins.edges[1:], bins.prices(g), strict=False):
        grid = np.geomspace(lower, upper, 20_001)
        mean = np.trapezoid((1.0 - g) * grid**-g, grid) / (upper - lower)
        assert price == pytest.approx(mean, rel=1e-4)


@given(HONEST, HONEST, EXPONENTS, st.floats(0.01, 1.0))
def test_the_mean_over_the_ranks_of_any_number_of_rows_is_at_most_one(cut_for, rows, g, share):
    """The bins are cut for one number of rows, at one g; a kind has any other number, and is priced at a smaller g too."""
    bins = PriceBins.cut(cut_for, g)
    for exponent in (g, g * share):
        prices = bins.factors(p_values(rows), exponent)
        assert math.fsum(prices) / (rows + 1) <= 1.0 + 1e-12
        assert (np.diff(prices) <= 0.0).all()


@given(HONEST, EXPONENTS)
def test_there_are_few_prices(honest, g):
    assert PriceBins.cut(honest, g).count <= 1 + math.floor(g * math.log2(honest + 1) + 1e-9)


@pytest.mark.parametrize(("honest", "g", "prices"), [(1, 0.8, 1), (25, 0.8, 4), (4_000, 0.8, 10), (60_000, 0.8, 13), (60_000, 0.98, 16)])  # fmt: skip
def test_calibrations_of_usual_sizes_have_at_most_20_prices(honest, g, prices):
    assert len(np.unique(PriceBins.cut(honest, g).factors(p_values(honest), g))) == prices


@given(st.integers(2, 60), EXPONENTS, st.lists(st.integers(0, 5), min_size=1, max_size=60), HONEST)
def test_tied_scores_keep_the_mean(honest, g, ties, cut_for):
    """Exact: of n + 1 exchangeable scores each may be the new one; ties make p larger, and prices smaller."""
    scores = np.resize(np.array(ties), honest + 1)
    at_least = (scores[None, :] >= scores[:, None]).sum(axis=1)  # with itself
    prices = PriceBins.cut(cut_for, g).factors(at_least / (honest + 1), g)
    assert sum(map(Fraction, prices.tolist())) / (honest + 1) <= 1 + Fraction(1, 10**12)


@given(HONEST, EXPONENTS)
def test_the_bounds_of_a_bin_enclose_its_p_values(honest, g):
    bins, p = PriceBins.cut(honest, g), p_values(honest)
    low, high = bins.bounds(p)
    assert ((low < p) & (p <= high)).all()
    assert (bins.factors(high, g) == bins.factors(p, g)).all()


def test_an_edge_belongs_to_the_bin_of_smaller_values():
    bins = PriceBins.cut(100, 0.5)
    assert bins.of(np.array([1.0, 0.26, 0.25, 0.07, 0.0625, 1e-9])).tolist() == [0, 0, 1, 1, 2, bins.count - 1]
