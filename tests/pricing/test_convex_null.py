"""The bounds of the likelihood over honest laws: never on the wrong side of what another solver finds, and close."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog, minimize

from modeltoll.pricing.convex_null import ConvexNull

SEEDS = st.integers(0, 2**32 - 1)


def problem(seed):
    """Caps (kinds, cells), rho and counts: few or many kinds, caps of zero, cells without rows, few or many rows."""
    rng = np.random.default_rng(seed)
    kinds, cells = int(rng.integers(1, 6)), int(rng.integers(2, 9))
    caps = rng.dirichlet(np.full(cells, rng.choice([0.3, 1.0, 5.0])), kinds)
    if kinds > 1 and rng.random() < 0.5:
        caps[rng.integers(1, kinds), rng.integers(cells)] = 0.0
    caps[0] = np.maximum(caps[0], 1e-6)  # every cell has a positive cap in some kind
    if rng.random() < 0.3:
        caps[0] = np.minimum(1.5 * caps[0] + 0.01, 1.0)  # wider than a law
    counts = rng.multinomial(int(rng.choice([1, 5, 40, 3000])), rng.dirichlet(np.full(cells, rng.choice([0.2, 1.0]))))
    return caps, float(rng.choice([0.0, 0.1, 0.25, 1.0])), counts.astype(np.float64)


def within(caps, rho, law):
    """Whether the law is in P, by linear programming: weights of kinds under whose caps it fits."""
    kinds = len(caps)
    found = linprog(np.zeros(kinds), A_ub=-(1.0 + rho) * caps.T, b_ub=-law + 1e-9, A_eq=np.ones((1, kinds)), b_eq=[1.0])
    return found.status == 0 and law.sum() <= 1.0 + 1e-9 and (law >= 0.0).all()


def likelihood(counts, law):
    return float((counts[counts > 0] * np.log(law[counts > 0])).sum())


def highest(caps, rho, counts, start):
    """The largest log-likelihood over P that sequential quadratic programming finds, over (weights, law)."""
    kinds, cells = caps.shape
    seen = np.flatnonzero(counts > 0)
    total = counts.sum()

    def value(x):
        return -float((counts[seen] * np.log(np.maximum(x[kinds + seen], 1e-12))).sum()) / total

    def slope(x):
        gradient = np.zeros(len(x))
        gradient[kinds + seen] = -counts[seen] / np.maximum(x[kinds + seen], 1e-12) / total
        return gradient

    below = np.hstack([(1.0 + rho) * caps.T, -np.eye(cells)])
    constraints = [
        {"type": "ineq", "fun": lambda x: below @ x, "jac": lambda x: below},
        {
            "type": "ineq",
            "fun": lambda x: 1.0 - x[kinds:].sum(),
            "jac": lambda x: np.r_[np.zeros(kinds), -np.ones(cells)],
        },
        {"type": "eq", "fun": lambda x: x[:kinds].sum() - 1.0, "jac": lambda x: np.r_[np.ones(kinds), np.zeros(cells)]},
    ]
    found = minimize(
        value, start, jac=slope, bounds=[(0.0, 1.0)] * len(start), constraints=constraints, method="SLSQP",
        options={"maxiter": 500, "ftol": 1e-12},
    )  # fmt: skip
    weights = np.clip(found.x[:kinds], 0.0, None)
    weights /= weights.sum()
    law = np.clip(np.minimum(found.x[kinds:], (1.0 + rho) * weights @ caps), 0.0, None)
    law /= max(1.0, law.sum())
    return likelihood(counts, law) if (law[seen] > 0.0).all() else -np.inf


@settings(max_examples=150)
@given(SEEDS)
def test_the_upper_bound_is_never_below_a_law_in_p(seed):
    """Against sequential quadratic programming, every single kind, and random mixtures of kinds."""
    caps, rho, counts = problem(seed)
    fit = ConvexNull(caps, rho).fit(counts[None], tolerance=1e-3)
    slack = 1e-7 * counts.sum() + 1e-9
    rng = np.random.default_rng(seed + 1)
    for weights in [*np.eye(len(caps)), *rng.dirichlet(np.full(len(caps), 0.5), 20)]:
        law = (1.0 + rho) * weights @ caps
        law /= max(1.0, law.sum())
        if (law[counts > 0] > 0.0).all():
            assert likelihood(counts, law) <= fit.upper[0] + slack
    start = np.r_[np.full(len(caps), 1 / len(caps)), np.minimum(caps.mean(axis=0), 1.0 / caps.shape[1])]
    assert highest(caps, rho, counts, start) <= fit.upper[0] + slack


@settings(max_examples=150)
@given(SEEDS)
def test_the_lower_bound_is_the_likelihood_of_a_law_in_p(seed):
    caps, rho, counts = problem(seed)
    fit = ConvexNull(caps, rho).fit(counts[None])
    law = fit.laws[0]
    assert within(caps, rho, law)
    assert (law[counts == 0] == 0.0).all()
    assert likelihood(counts, law) == pytest.approx(fit.lower[0], rel=1e-9, abs=1e-9)
    assert fit.lower[0] <= fit.upper[0]


def test_the_bounds_meet():
    """Of 1,000 random problems at most 5 are not solved to 0.1 nats within the steps, and these to 0.01 nats a row."""
    gaps, rows = [], []
    for seed in range(1000):
        caps, rho, counts = problem(seed)
        fit = ConvexNull(caps, rho).fit(counts[None])
        gaps.append(float(fit.upper[0] - fit.lower[0]))
        rows.append(counts.sum())
    assert (np.array(gaps) >= 0.1).sum() <= 5
    assert (np.array(gaps) <= np.maximum(0.1, 0.01 * np.array(rows))).all()


@settings(max_examples=50)
@given(SEEDS)
def test_many_histograms_at_once_get_what_each_gets_alone(seed):
    caps, rho, _ = problem(seed)
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(60, np.full(caps.shape[1], 1 / caps.shape[1]), 7).astype(np.float64)
    counts[3] = 0.0
    null = ConvexNull(caps, rho)
    together = null.fit(counts)
    assert together.lower[3] == together.upper[3] == 0.0
    for place, histogram in enumerate(counts):
        alone = null.fit(histogram[None])
        assert alone.upper[0] == pytest.approx(together.upper[place], abs=1e-6)
        assert alone.lower[0] == pytest.approx(together.lower[place], abs=1e-6)


@settings(max_examples=100)
@given(SEEDS, st.floats(-5.0, 5.0))
def test_a_search_that_ends_early_keeps_its_bounds_valid(seed, enough):
    """Where it ends because a bound suffices, that bound does suffice, and the other is on its side."""
    caps, rho, counts = problem(seed)
    null = ConvexNull(caps, rho)
    best = null.fit(counts[None], tolerance=1e-6)
    level = np.array([float(best.lower[0]) + enough])
    for limits in ({"enough_lower": level}, {"enough_upper": level}):
        fit = null.fit(counts[None], **limits)
        assert fit.lower[0] <= best.upper[0] + 1e-6
        assert fit.upper[0] >= best.lower[0] - 1e-6
        settled = fit.lower[0] > level[0] if "enough_lower" in limits else fit.upper[0] < level[0]
        assert settled or fit.upper[0] - fit.lower[0] <= max(0.1, 0.01 * counts.sum())


def test_one_kind_without_tolerance_is_its_own_likelihood():
    law = np.array([0.5, 0.3, 0.2])
    fit = ConvexNull(law[None], 0.0).fit(np.array([[3.0, 0.0, 7.0]]))
    assert fit.upper[0] == pytest.approx(3 * np.log(0.5) + 7 * np.log(0.2), abs=0.1)
