"""The price of cells: its mean is at most one unit under every kind, and it does not depend on chance."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from modeltoll.pricing.cells import Cells
from modeltoll.pricing.kinds import ALL_TRAFFIC, CLASS, DECLARED, FittedKind
from modeltoll.pricing.numeraire import (
    CellPrices,
    cautious_laws,
    numeraire_prices,
    reverse_projection,
    strangers_law,
)

SIZES = st.tuples(st.integers(1, 6), st.integers(1, 12), st.integers(0, 2**32 - 1))


def drawn(kinds, cells, seed):
    """Laws of kinds, some of them nearly zero in some cells, and a law of strangers."""
    rng = np.random.default_rng(seed)
    laws = rng.dirichlet(np.full(cells, 0.5), kinds) + 1e-7
    return rng.dirichlet(np.full(cells, 0.3)) * 0.9 + 0.1 * laws.mean(axis=0), laws / laws.sum(axis=1, keepdims=True)


@settings(max_examples=100)
@given(SIZES, st.floats(0.0, 1.0))
def test_the_mean_price_is_at_most_one_under_every_kind_and_every_mixture(sizes, share):
    law, laws = drawn(*sizes)
    prices = numeraire_prices(law, laws)
    means = laws @ prices
    assert means.max() <= 1.0 + 1e-12
    assert means.max() >= 1.0 - 1e-9, "nothing is given away under the dearest kind"
    mixture = np.full(len(laws), (1.0 - share) / len(laws))
    mixture[0] += share
    assert mixture @ means <= 1.0 + 1e-12


@given(SIZES)
def test_prices_are_in_steps_of_two(sizes):
    prices = numeraire_prices(*drawn(*sizes))
    steps = np.log2(prices / prices.min())
    assert np.allclose(steps, np.rint(steps), atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 4), st.integers(2, 8), st.integers(0, 2**32 - 1))
def test_the_projection_is_that_of_a_convex_solver_and_its_certificate_is_true(kinds, cells, seed):
    law, laws = drawn(kinds, cells, seed)
    mixture, largest = reverse_projection(law, laws)
    assert largest == pytest.approx(float((laws @ (law / mixture)).max()))
    found = minimize(
        lambda weights: -law @ np.log(np.maximum(weights @ laws, 1e-300)),
        np.full(kinds, 1.0 / kinds),
        bounds=[(0.0, 1.0)] * kinds,
        constraints={"type": "eq", "fun": lambda weights: weights.sum() - 1.0},
        method="SLSQP",
    )
    assert law @ np.log(mixture) >= -found.fun - 1e-4
    assert largest <= 1.01


def test_strangers_cost_more_than_any_kind():
    """A stranger in two cells that one kind seldom and the other never reaches."""
    laws = np.array([[0.01, 0.04, 0.45, 0.5], [0.001, 0.001, 0.198, 0.8]])
    prices = numeraire_prices(strangers_law(np.array([[40.0, 60.0, 0.0, 0.0]]), laws), laws)
    assert prices[:2].min() > 8.0
    assert prices[2:].max() < 1.0
    assert (prices > 0.0).all()


def test_every_stranger_has_the_same_share_however_many_its_rows():
    laws = np.array([[0.25, 0.25, 0.25, 0.25]])
    few_and_many = strangers_law(np.array([[10.0, 0.0, 0.0, 0.0], [0.0, 10_000.0, 0.0, 0.0]]), laws)
    assert few_and_many[0] == few_and_many[1]
    assert few_and_many.sum() == pytest.approx(1.0)


@settings(max_examples=60)
@given(st.lists(st.integers(0, 6), min_size=2, max_size=8).filter(lambda counts: sum(counts) > 1), st.integers(0, 99))
def test_a_single_kind_pays_at_most_one_unit_exactly_although_its_law_is_an_estimate(counts, seed):
    """Exact, without the steps of two: any of n + 1 exchangeable rows is the new one, the others are the kind's counts."""
    law = np.random.default_rng(seed).dirichlet(np.ones(len(counts)))
    total, rows = 0.0, sum(counts)
    for cell, count in enumerate(counts):
        if count:
            others = np.array(counts, np.int64)
            others[cell] -= 1
            kind = FittedKind(ALL_TRAFFIC, ALL_TRAFFIC, others)
            laws = cautious_laws([kind], others[None] / (rows - 1))
            total += count / rows * law[cell] / laws[0, cell]
    assert total <= 1.0 + 1e-12


def test_no_price_exceeds_the_rows_of_a_large_kind():
    """Where no honest row fell into a cell, its law is unknown rather than nothing. A kind of few rows is left as it is."""
    counts = np.array([0, 2000], np.int64)
    kinds = [FittedKind(name, role, counts) for name, role in (("all", ALL_TRAFFIC), ("blur", DECLARED))]
    kinds.append(FittedKind("class 1", CLASS, np.array([0, 30], np.int64)))
    laws = np.array([[1e-12, 1.0], [1e-12, 1.0], [1e-12, 1.0]])
    raised = cautious_laws(kinds, laws)
    assert raised[:2, 0] == pytest.approx([1 / 2001] * 2)
    assert raised[2, 0] == 1e-12
    assert laws[0, 0] == 1e-12, "the laws that were given are not changed"
    assert numeraire_prices(np.array([0.9, 0.1]), raised)[0] <= 2001.0


@pytest.mark.parametrize("coordinates", [1, 2])
def test_the_price_of_a_row_is_the_mean_over_its_random_number(coordinates):
    """Rows without ties lie in one cell or on the edge of two; tied rows in many. 20,000 random numbers give the mean."""
    rng, cells = np.random.default_rng(0), Cells(coordinates, 500)
    prices = CellPrices(cells, rng.lognormal(size=cells.count))
    lower = rng.uniform(0.0, 0.9, (30, coordinates))
    upper = lower + rng.choice([0.002, 0.1, 1.0], (30, coordinates)) * (1.0 - lower)
    lower[0], upper[0] = 0.0, 1.0
    expected = prices.of(lower, upper)
    drawn_p = lower + (1.0 - rng.random((20_000, 30, coordinates))) * (upper - lower)
    sampled = np.array([prices.prices[cells.of(drawn_p[:, row])].mean() for row in range(30)])
    assert sampled == pytest.approx(expected, rel=0.05)
    assert expected[0] == pytest.approx(cells.widths @ prices.prices)


@given(st.integers(0, 2**32 - 1), st.integers(1, 2), st.integers(1, 40))
def test_the_price_of_one_row_is_bit_for_bit_that_of_many(seed, coordinates, honest):
    rng, cells = np.random.default_rng(seed), Cells(coordinates, honest)
    prices = CellPrices(cells, rng.lognormal(size=cells.count))
    above = rng.integers(0, honest + 1, (20, coordinates))
    upper = (above + 1 + rng.integers(0, honest + 1 - above)) / (honest + 1)
    lower = above / (honest + 1)
    many = prices.of(lower, upper)
    single = [prices.of_list(low, high) for low, high in zip(lower.tolist(), upper.tolist(), strict=True)]
    assert many.tolist() == single


def test_honest_rows_cost_the_mean_of_the_cells():
    """Exact over all ranks of untied rows that are independent: the mean over rows is that over the cells' widths."""
    honest, cells = 60, Cells(2, 60)
    prices = CellPrices(cells, np.random.default_rng(3).lognormal(size=cells.count))
    ranks = np.stack(np.meshgrid(np.arange(honest + 1), np.arange(honest + 1)), axis=-1).reshape(-1, 2)
    per_row = prices.of(ranks / (honest + 1), (ranks + 1) / (honest + 1))
    assert per_row.mean() == pytest.approx(cells.widths @ prices.prices)
