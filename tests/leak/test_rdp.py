"""The Rényi mathematics: against the formulas as published in 50 digits, against the paper's figures, and its laws."""

from __future__ import annotations

import itertools
from collections import Counter

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp, mpf

from modeltoll.leak.rdp import ORDERS, epsilon, gnmax_rdp, log_q

TOLERANCE = 1e-9
SMALLEST = 1e-290  # below this only the size is promised


def reference_log_q(votes, sigma):
    """Proposition 7 as PAPER.md writes it: log of 1/2 sum erfc((n_j* - n_j) / (2 sigma)), capped."""
    winner = int(np.argmax(votes))
    gaps = Counter(int(votes[winner]) - int(n) for j, n in enumerate(votes) if j != winner)
    q = sum(times * mpmath.erfc(mpf(gap) / (2 * mpf(sigma))) for gap, times in gaps.items()) / 2
    return min(mpmath.log(q), mpmath.log1p(-mpf(1) / len(votes)))


def reference_rdp(log_q, sigma, order):
    """Theorem 6 with the orders of Proposition 10, and its conditions, as published."""
    log_q, sigma, L = mpf(float(log_q)), mpf(sigma), mpf(float(order))
    ceiling = L / sigma**2
    m2 = sigma * mpmath.sqrt(-log_q)
    m1 = m2 + 1
    e1, e2 = m1 / sigma**2, m2 / sigma**2
    if not (m1 > L and m2 > 1 and -log_q > e2):
        return ceiling
    if not log_q <= (m2 - 1) * e2 - m2 * (mpmath.log(1 + 1 / (m1 - 1)) + mpmath.log(1 + 1 / (m2 - 1))):
        return ceiling
    q = mpmath.exp(log_q)
    A = (1 - q) / (1 - (q * mpmath.exp(e2)) ** (1 - 1 / m2))
    B = mpmath.exp(e1) / q ** (1 / (m1 - 1))
    bound = mpmath.log((1 - q) * A ** (L - 1) + q * B ** (L - 1)) / (L - 1)
    return min(bound, ceiling)


def in_digits(log_q, function, *arguments):
    """Evaluate with 50 digits beyond those that a sum with 1 loses."""
    with mp.workdps(50 + min(700, int(abs(float(log_q)) / 2.3))):
        return function(log_q, *arguments)


def close(found, expected):
    return abs(found - expected) <= TOLERANCE * abs(expected) or max(abs(found), abs(expected)) < SMALLEST


def hard_votes():
    """Unanimous, tied, split and near-tied votes of 10 to 1000 teachers over 2 to 1000 classes."""
    for teachers, classes in itertools.product((10, 50, 250, 1000), (2, 3, 10, 100, 1000)):
        rows = np.zeros((6, classes), dtype=np.int64)
        rows[0, 0] = teachers
        rows[1, :2] = teachers - teachers // 2, teachers // 2
        rows[2] = teachers // classes
        rows[2, 0] += teachers - rows[2].sum()
        rows[3, :2] = teachers - 1, 1
        rows[4, -2:] = teachers // 5, teachers - teachers // 5
        rows[5, [0, -1]] = teachers * 2 // 3, teachers - teachers * 2 // 3
        yield teachers, rows


@pytest.mark.parametrize("share", [0.01, 0.04, 0.1])
def test_log_q_is_that_of_the_published_formula(share):
    for teachers, votes in hard_votes():
        sigma = max(0.5, share * teachers)
        with mp.workdps(50):
            expected = [reference_log_q(row, sigma) for row in votes]
        assert all(close(a, b) for a, b in zip(log_q(votes, sigma), expected, strict=True))


@pytest.mark.parametrize("sigma", [0.5, 2.0, 10.0, 28.0, 100.0])
def test_rdp_is_that_of_the_published_formula_at_every_kind_of_order(sigma):
    orders = ORDERS[[0, 1, 5, 18, 60, 195, 196, 300, 395]]
    values = np.concatenate([-np.geomspace(1e-4, 4.0, 23), -np.geomspace(4.5, 3000.0, 12)])
    found = gnmax_rdp(values, sigma, orders)
    for (i, value), (j, order) in itertools.product(enumerate(values), enumerate(orders)):
        assert close(found[i, j], in_digits(value, reference_rdp, sigma, order)), (value, order)


@pytest.mark.parametrize(("teachers", "sigma"), [(250, 10.0), (50, 2.0), (1000, 40.0), (1000, 5.0), (10, 0.5)])
def test_rdp_of_real_votes_is_that_of_the_published_formula(teachers, sigma):
    rows = np.concatenate([votes[:, :3] for n, votes in hard_votes() if n == teachers and votes.shape[1] == 3])
    values = log_q(rows, sigma)
    found = gnmax_rdp(values, sigma, ORDERS)
    for i, j in itertools.product(range(len(values)), range(0, ORDERS.size, 56)):
        assert close(found[i, j], in_digits(values[i], reference_rdp, sigma, ORDERS[j]))


@pytest.mark.parametrize(
    ("teachers", "sigma", "delta", "unanimous", "cap"),
    [(250, 10.0, 1e-5, 0.1883, 0.6886), (250, 10.0, 1e-6, 0.2257, 0.7534), (50, 2.0, 1e-5, 0.9608, 3.6447)],
)
def test_epsilon_of_one_query_is_the_published_one(teachers, sigma, delta, unanimous, cap):
    votes = np.zeros((2, 10), dtype=np.int64)
    votes[0, 3] = teachers
    votes[1] = teachers // 10
    found = epsilon(gnmax_rdp(log_q(votes, sigma), sigma, ORDERS), ORDERS, delta)
    assert found == pytest.approx([unanimous, cap], abs=5e-5)


def test_the_orders_are_the_published_ones():
    assert ORDERS.size == 396
    assert (ORDERS[0], ORDERS[1], ORDERS[195]) == (2.0, 2.5, 99.5)
    assert ORDERS[196] == pytest.approx(100.0)
    assert ORDERS[-1] == pytest.approx(1000.0)
    assert np.ptp(np.diff(np.log(ORDERS[196:]))) < 1e-12


@settings(max_examples=60, deadline=None)
@given(st.floats(0.3, 200.0), st.integers(0, 2**32 - 1))
def test_rdp_never_falls_as_q_rises(sigma, seed):
    """More agreement never raises the leak, at any order: also where the data-dependent bound takes over."""
    values = np.sort(-(10 ** np.random.default_rng(seed).uniform(-4, 3.5, 400)))
    rdp = gnmax_rdp(values, sigma, ORDERS)
    assert np.all(rdp[1:] >= rdp[:-1] * (1 - 1e-12) - SMALLEST)


@settings(max_examples=40, deadline=None)
@given(st.integers(10, 1000), st.integers(2, 30), st.integers(0, 2**32 - 1))
def test_a_vote_moved_to_the_winner_never_raises_the_leak(teachers, classes, seed):
    rng = np.random.default_rng(seed)
    before = rng.multinomial(teachers, rng.dirichlet(np.full(classes, 0.3)), size=20)
    after = before.copy()
    for row, winner in zip(after, before.argmax(axis=1), strict=True):
        losers = np.flatnonzero((row > 0) & (np.arange(classes) != winner))
        if losers.size:
            row[rng.choice(losers)] -= 1
            row[winner] += 1
    sigma = teachers / 25
    leaks = [gnmax_rdp(log_q(votes, sigma), sigma, ORDERS) for votes in (before, after)]
    assert np.all(leaks[1] <= leaks[0] * (1 + 1e-12) + SMALLEST)


@settings(max_examples=30, deadline=None)
@given(st.floats(0.3, 200.0), st.integers(0, 400), st.integers(0, 2**32 - 1))
def test_rdp_of_a_batch_is_that_of_its_rows(sigma, rows, seed):
    rng = np.random.default_rng(seed)
    values = rng.choice(-(10 ** rng.uniform(-4, 3.5, 50)), size=rows)
    whole = gnmax_rdp(values, sigma, ORDERS)
    assert whole.shape == (rows, ORDERS.size)
    for row in range(0, rows, 37):
        assert np.array_equal(gnmax_rdp(values[row : row + 1], sigma, ORDERS)[0], whole[row])


@settings(max_examples=30, deadline=None)
@given(st.floats(0.05, 500.0), st.integers(0, 2**32 - 1))
def test_rdp_is_finite_and_between_zero_and_the_data_independent_bound(sigma, seed):
    values = -(10 ** np.random.default_rng(seed).uniform(-300, 6, 200))
    rdp = gnmax_rdp(values, sigma, ORDERS)
    assert np.isfinite(rdp).all()
    assert (rdp >= 0.0).all()
    assert (rdp <= ORDERS / sigma**2).all()


@given(st.integers(0, 2**32 - 1), st.integers(2, 50), st.integers(1, 200))
def test_log_q_of_a_batch_is_that_of_its_rows(seed, classes, teachers):
    """Also where a table over the gaps is larger than the batch."""
    rng = np.random.default_rng(seed)
    votes = rng.multinomial(teachers, rng.dirichlet(np.ones(classes)), size=30)
    whole = log_q(votes, teachers / 25)
    assert np.array_equal(np.concatenate([log_q(row[None], teachers / 25) for row in votes]), whole)
    assert np.all(whole <= np.log1p(-1 / classes))
