"""The quick bound is never below the evidence, and what it clears the whole test clears, too."""

import dataclasses
import math

import numpy as np
import pytest

from modeltoll.evidence_records import RESTART_ROWS, EvidenceState
from modeltoll.pricing.evidence_numerator import EvidenceNumerator
from modeltoll.pricing.evidence_test import EvidenceTest
from modeltoll.pricing.kind_laws import KindLaws
from modeltoll.pricing.kinds import ALL_TRAFFIC, DECLARED, FittedKind
from modeltoll.pricing.leak_ranks import rounded_leaks, rounded_rows
from modeltoll.pricing.quick_screen import QuickScreen

CELLS, LIMIT = 14, math.log(1e6)


def evidence_test(seed):
    rng = np.random.default_rng(seed)
    widths = np.full(CELLS, 1 / CELLS)
    laws = rng.dirichlet(np.full(CELLS, 3.0), 3)
    kinds = [
        FittedKind(name, role, rng.multinomial(4000, law))
        for name, role, law in zip(
            ("all traffic", "dark", "rotated"), (ALL_TRAFFIC, DECLARED, DECLARED), laws, strict=True
        )
    ]
    fitted = KindLaws.of(kinds, widths)
    test = EvidenceTest(fitted, EvidenceNumerator(fitted.laws, (CELLS,)), (0.25, 0.02), (LIMIT, LIMIT + 10.0))
    return test, laws, rng


def histograms(laws, rng):
    """Counts of few and of very many rows, of kinds and of a stranger."""
    stranger = rng.dirichlet(np.full(CELLS, 0.3))
    for rows in (1, 5, 64, 700, 9000, 200_000):
        for law in (*laws, stranger, 0.8 * laws[0] + 0.2 * stranger):
            yield tuple(rng.multinomial(rows, law).tolist())


@pytest.mark.parametrize("seed", range(3))
def test_the_bound_is_never_below_the_evidence(seed):
    test, laws, rng = evidence_test(seed)
    counts = list(histograms(laws, rng))
    exact = test.log_evidence(np.array(counts, dtype=np.float64), -np.inf, np.inf)
    cleared = [test.quick.is_below(one, LIMIT) for one in counts]
    assert any(cleared)
    assert not all(cleared)
    assert all(log < LIMIT for log, clear in zip(exact, cleared, strict=True) if clear)


@pytest.mark.parametrize("seed", range(3))
def test_a_verdict_is_the_same_without_it(seed):
    test, laws, rng = evidence_test(seed)
    found = []
    for counts in histograms(laws, rng):
        state = EvidenceState.new(CELLS, 0.0, (None, 2.0, LIMIT + 1.0)[int(rng.integers(3))])
        state = dataclasses.replace(state, counts=counts, blocks=(counts,) * len(RESTART_ROWS))
        quick, test.quick = test.quick, None
        whole = test.judge(state, state.carried_log)
        test.quick = quick
        assert test.judge(state, state.carried_log).log_evidence == whole.log_evidence
        found.append(test._is_surely_honest(state, state.carried_log))
    assert any(found)


def test_terms_are_the_same_beside_the_tables():
    test, _, rng = evidence_test(0)
    mixture = test._numerator.dirichlet
    law = rng.dirichlet(np.full(CELLS, 3.0))
    quick = QuickScreen(mixture, law[None], 0.02)
    counts = (600, *[5] * (CELLS - 1))
    rows, priors = sum(counts), mixture.priors.tolist()
    terms = [
        constant
        - math.lgamma(total + rows)
        + sum(math.lgamma(prior + count) for prior, count in zip(each, counts, strict=True))
        for constant, total, each in zip(mixture.log_constants, mixture.totals, priors, strict=True)
    ]
    expected = np.logaddexp(*terms) - 0.02 * rows - np.dot(counts, np.log(law))
    assert quick.is_below(counts, expected + math.log(2.0) + 1e-6)
    assert not quick.is_below(counts, expected - 1e-6)


def test_a_law_that_has_no_likelihood_clears_nothing():
    test, _, _ = evidence_test(0)
    law = np.array([0.0, *[1 / (CELLS - 1)] * (CELLS - 1)])
    with np.errstate(divide="ignore", invalid="ignore"):
        quick = QuickScreen(test._numerator.dirichlet, law[None], 0.02)
        for counts in ((0, *[5] * (CELLS - 1)), (7, *[0] * (CELLS - 1)), (600, *[0] * (CELLS - 1))):
            assert not quick.is_below(counts, LIMIT)


def test_few_leaks_are_rounded_like_many():
    values = np.random.default_rng(0).lognormal(0.0, 30.0, (200, 3))
    values[0] = (0.0, -0.0, 1.7e308)
    assert rounded_rows(values) == rounded_leaks(values).tolist()
