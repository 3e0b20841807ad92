"""Accountants: totals depend neither on the order of the answers nor on their split into requests."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeltoll.errors import AnswerError, RequestError, SettingsError
from modeltoll.leak.accountants import BucketAccountant, EpsilonAccountant, GainAccountant
from modeltoll.leak.pate import EPS_SUM, PateMeasure, VoteReadout
from modeltoll.leak.pknn import PknnMeasure, log_scores
from modeltoll.leak.rdp import ORDERS
from modeltoll.records import Evidence


def voters(inputs):
    """250 votes: the input's first number for class 0, the rest split."""
    first = inputs[:, 0].astype(np.int64)
    rest = 250 - first
    return np.stack([first, rest // 2, rest - rest // 2], axis=1)


def pknn():
    rng = np.random.default_rng(0)
    return PknnMeasure(log_scores(rng.dirichlet(np.ones(3), 60)), np.arange(60) % 3, 20)


ACCOUNTANTS = {
    "eps-composed, teachers": EpsilonAccountant(PateMeasure(voters, 250, VoteReadout(10.0))),
    "eps-composed, pknn": EpsilonAccountant(pknn()),
    "gain": GainAccountant(3, noise=0.5, prior=2.0),
    "buckets": BucketAccountant(np.full(3, 1 / 3), bits=6),
}


def evidence(count, seed=0):
    rng = np.random.default_rng(seed)
    inputs = rng.integers(80, 251, (count, 3)).astype(float)
    return Evidence((b"",) * count, rng.dirichlet(np.ones(3), count), inputs)


def part(whole, rows):
    return Evidence((b"",) * len(rows), whole.scores[rows], whole.inputs[rows])


@pytest.mark.parametrize("accountant", ACCOUNTANTS.values(), ids=ACCOUNTANTS)
@settings(max_examples=20)
@given(st.integers(2, 12), st.integers(0, 2**32 - 1))
def test_the_total_depends_neither_on_order_nor_on_requests_nor_on_splitting_the_state(accountant, count, seed):
    whole = evidence(count, seed)
    rng = np.random.default_rng(seed)
    order, cut = rng.permutation(count), int(rng.integers(count + 1))
    at_once = accountant.add(accountant.initial(), whole)
    state, totals = accountant.initial(), [0.0]
    for row in order:
        before = state.copy()
        grown = accountant.add(state, part(whole, [row]))
        assert np.array_equal(state, before)
        state = grown
        totals.append(accountant.total(state))
    halves = [accountant.add(accountant.initial(), part(whole, order[rows])) for rows in (slice(cut), slice(cut, None))]
    joined = accountant.merge(*halves)
    assert accountant.total(accountant.initial()) == 0.0
    assert totals[-1] == pytest.approx(accountant.total(at_once), rel=1e-12)
    assert accountant.total(joined) == pytest.approx(accountant.total(at_once), rel=1e-12)
    assert (np.diff(totals) >= 0.0).all()


def test_composed_epsilon_agrees_with_fifty_digits():
    mpmath.mp.dps = 50
    accountant = ACCOUNTANTS["eps-composed, teachers"]
    whole = evidence(6, 3)
    sigma, delta = mpmath.mpf(10), mpmath.mpf(10) ** -5
    rdp = [mpmath.mpf(0)] * ORDERS.size
    for votes in voters(whole.inputs):
        rdp = [total + term for total, term in zip(rdp, reference_rdp(votes, sigma), strict=True)]
    pairs = zip(rdp, ORDERS, strict=True)
    expected = min(total - mpmath.log(delta) / (mpmath.mpf(float(order)) - 1) for total, order in pairs)
    state = accountant.add(accountant.initial(), whole)
    assert accountant.total(state) == pytest.approx(float(expected), rel=1e-11)


def reference_rdp(votes, sigma):
    """Papernot et al. 2018, Theorem 6 with Propositions 7 and 10, as printed."""
    top = int(np.argmax(votes))
    tails = (mpmath.erfc((int(votes[top]) - int(n)) / (2 * sigma)) / 2 for j, n in enumerate(votes) if j != top)
    q = min(mpmath.fsum(tails), 1 - mpmath.mpf(1) / len(votes))
    m2 = sigma * mpmath.sqrt(-mpmath.log(q))
    m1 = m2 + 1
    e1, e2 = m1 / sigma**2, m2 / sigma**2
    holds = m2 > 1 and -mpmath.log(q) > e2
    holds = holds and mpmath.log(q) <= (m2 - 1) * e2 - m2 * (
        mpmath.log(1 + 1 / (m1 - 1)) + mpmath.log(1 + 1 / (m2 - 1))
    )
    for order in map(float, ORDERS):
        ceiling = mpmath.mpf(order) / sigma**2
        if not holds or m1 <= order:
            yield ceiling
            continue
        a = (1 - q) / (1 - (q * mpmath.exp(e2)) ** (1 - 1 / m2))
        b = mpmath.exp(e1) / q ** (1 / (m1 - 1))
        yield min(ceiling, mpmath.log((1 - q) * a ** (order - 1) + q * b ** (order - 1)) / (order - 1))


def test_composed_epsilon_is_below_the_sum_and_equals_it_for_one_row():
    accountant = ACCOUNTANTS["eps-composed, teachers"]
    single = PateMeasure(voters, 250, VoteReadout(10.0, EPS_SUM))
    for count in (1, 40):
        whole = evidence(count, 8)
        composed = accountant.total(accountant.add(accountant.initial(), whole))
        summed = single.measure(whole).sum()
        assert composed == pytest.approx(summed, rel=1e-12) if count == 1 else composed < summed


def test_the_gain_of_a_row_is_the_formula_and_a_repeated_row_gains_less():
    accountant = ACCOUNTANTS["gain"]
    first, second = (part(evidence(2, 4), [row]) for row in (0, 1))
    state = accountant.add(accountant.initial(), first)
    precision = np.eye(3) / 2.0 + state
    x = second.inputs[0]
    expected = 0.5 * np.log(1.0 + x @ np.linalg.solve(precision, x) / 0.25)
    gained = accountant.total(accountant.add(state, second)) - accountant.total(state)
    assert gained == pytest.approx(expected, rel=1e-9)
    again = accountant.total(accountant.add(state, first)) - accountant.total(state)
    assert again < accountant.total(state)


def test_a_bucket_counts_once_and_two_directions_are_two_buckets():
    accountant = BucketAccountant(np.zeros(8), bits=10)
    one = np.random.default_rng(0).normal(size=(1, 8))
    for vectors, occupied in (
        (one, 1),
        (np.tile(one, (5, 1)) * [[1], [2], [3], [4], [5]], 1),
        (np.vstack([one, -one]), 2),
    ):
        state = accountant.add(accountant.initial(), Evidence((b"",) * len(vectors), vectors))
        assert accountant.total(state) == occupied / 1024


def test_what_cannot_be_measured_is_refused_and_never_counted_as_nothing():
    gain, buckets = ACCOUNTANTS["gain"], ACCOUNTANTS["buckets"]
    with pytest.raises(RequestError):
        gain.add(gain.initial(), Evidence((b"",), inputs=np.ones((1, 4))))
    with pytest.raises(RequestError):
        gain.add(gain.initial(), Evidence((b"",), inputs=np.full((1, 3), np.nan)))
    for wrong in (None, np.full((1, 3), np.inf), np.ones((1, 2)), np.ones((2, 3))):
        with pytest.raises(AnswerError):
            buckets.add(buckets.initial(), Evidence((b"",), scores=wrong))
    for wrong in (
        lambda: GainAccountant(0),
        lambda: GainAccountant(2, noise=0.0),
        lambda: BucketAccountant(np.ones(2), 0),
    ):
        with pytest.raises(SettingsError):
            wrong()
