"""The promise of the evidence, by enumeration: whoever picks each row's law among the honest ones, knowing the past, is
suspected with probability alpha at most. And what makes it cheap: the screen, and adding up blocks, change no verdict.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from evidence_steps import advanced, folded, new_state
from modeltoll.pricing.convex_null import ConvexNull
from modeltoll.pricing.evidence_numerator import EvidenceNumerator
from modeltoll.pricing.evidence_test import EvidenceTest, components, log_sum
from modeltoll.pricing.kind_laws import KindLaws
from modeltoll.pricing.kinds import FittedStranger

LETTERS = 3
SEEDS = st.integers(0, 2**32 - 1)


class Game:
    """A caller against the test: the laws that they may use, the test of a few cells, and short blocks."""

    def __init__(self, seed, *, rho, rho0, sizes=(2, 3), alpha=0.1, widened=False, strangers=True):
        rng = np.random.default_rng(seed)
        laws = rng.dirichlet(np.full(LETTERS, 0.6), int(rng.integers(1, 4)))
        laws[:, 2] = 0.02 + 0.03 * laws[:, 2]  # a rare cell, so that a few rows suffice for suspicion
        laws = 0.97 * laws / laws.sum(axis=1, keepdims=True) + 0.01
        caps = np.minimum(laws + 0.05, 1.0) if widened else laws
        self.rho, self.rho0, self.sizes, self.caps, self.alpha = rho, rho0, sizes, caps, alpha
        self.laws = KindLaws(tuple("abc"[: len(laws)]), laws * (1 - 1e-12), caps)
        known = [FittedStranger("thief", rng.multinomial(30, [0.05, 0.15, 0.8]))] if strangers else []
        self.numerator = EvidenceNumerator(self.laws.laws, (LETTERS,), known)
        limit = -math.log(alpha)
        self.test = EvidenceTest(self.laws, self.numerator, (rho, rho0), (limit, limit + 2 * math.log(100.0)))
        self._values = {}

    def start(self):
        return new_state(LETTERS, self.sizes)

    def after(self, state, cell):
        """The account after one more row: charged, judged, and billed, so that ended blocks are added."""
        state = advanced(state, [cell], self.sizes)
        return folded(state, self.test.judge(state).folded)

    def best_reply(self, values):
        """The largest mean of ``values`` (letters,) over all laws that the promise allows, by linear programming.

        Variables: the law, the honest law p of which it is at most 1 + rho0 times, the weights of the kinds.
        """
        kinds, one = len(self.caps), np.eye(LETTERS)
        none, nothing = np.zeros((LETTERS, LETTERS)), np.zeros((LETTERS, kinds))
        over = np.vstack(
            [
                np.hstack([one, -(1.0 + self.rho0) * one, nothing]),
                np.hstack([none, one, -(1.0 + self.rho) * self.caps.T]),
                np.r_[np.ones(LETTERS), np.zeros(LETTERS + kinds)],
                np.r_[np.zeros(LETTERS), np.ones(LETTERS), np.zeros(kinds)],
            ]
        )
        found = linprog(
            -np.r_[values, np.zeros(LETTERS + kinds)], A_ub=over, b_ub=np.r_[np.zeros(2 * LETTERS), 1.0, 1.0],
            A_eq=np.r_[np.zeros(2 * LETTERS), np.ones(kinds)][None], b_eq=[1.0],
        )  # fmt: skip
        assert found.status == 0
        return -found.fun

    def worth(self, state, rows, gain):
        """What the caller can reach in so many more rows, who may stop after any row and then has ``gain(state)``."""
        key = (state.counts, state.blocks, state.numbers, state.finished, state.finished_log, rows)
        if key not in self._values:
            here = gain(state)
            if rows and here < math.inf:
                later = [self.worth(self.after(state, cell), rows - 1, gain) for cell in range(LETTERS)]
                here = max(here, self.best_reply(np.array(later)))
            self._values[key] = here
        return self._values[key]


GAMES = [
    {"seed": 0, "rho": 0.0, "rho0": 0.0},
    {"seed": 2, "rho": 0.25, "rho0": 0.02},
    {"seed": 3, "rho": 0.1, "rho0": 0.0, "strangers": False},
    {"seed": 4, "rho": 0.1, "rho0": 0.02, "widened": True, "sizes": (1, 3)},
]


@pytest.mark.parametrize("terms", GAMES, ids=str)
def test_no_honest_caller_makes_the_mean_evidence_larger_than_one(terms):
    """Whoever stops when they like, with restarts: the mean of M at that time is 1 at most."""
    game = Game(**terms)
    assert game.worth(game.start(), 5, lambda state: math.exp(game.test.total(state))) <= 1.0 + 1e-6


@pytest.mark.parametrize("terms", GAMES, ids=str)
def test_honest_callers_are_ever_suspected_with_probability_alpha_at_most(terms):
    game = Game(**terms)
    limit = -math.log(game.alpha)

    def suspected(state):
        return float(max(game.test.judge(state).log_evidence, game.test.total(state)) >= limit)

    assert game.worth(game.start(), 5, suspected) <= game.alpha
    states = [game.start()]
    for cell in [2] * 5:
        states.append(game.after(states[-1], cell))
    assert any(map(suspected, states)), "a caller who is not honest can be suspected in as many rows"


@pytest.mark.parametrize("seed", range(4))
def test_the_evidence_of_all_rows_alone_has_a_mean_of_one_at_most_with_exact_fits(seed):
    """Nine rows, without restarts, and with the null fitted to 1e-6, so that no slack of the search hides a fault."""
    game = Game(seed, rho=0.25 * (seed % 2), rho0=0.02 * (seed % 2), sizes=())
    null = ConvexNull(game.caps, game.rho)

    def value(state):
        counts = np.array([state.counts], dtype=np.float64)
        fit = null.fit(counts, tolerance=1e-6)
        return math.exp(game.numerator.log(counts)[0] - fit.upper[0] - counts.sum() * math.log1p(game.rho0))

    assert value(game.start()) == pytest.approx(1.0)
    assert 0.0 < game.worth(game.start(), 9, value) <= 1.0 + 1e-6


def test_a_caller_beyond_the_tolerance_does_exceed_the_bound():
    """The game can be lost: where rows may be twice as frequent as the null allows, alpha is exceeded."""
    game = Game(2, rho=0.25, rho0=0.02)
    cheat = Game(2, rho=4.0, rho0=0.02)
    cheat.test = game.test

    def suspected(state):
        return float(game.test.total(state) >= -math.log(game.alpha))

    assert cheat.worth(cheat.start(), 5, suspected) > game.alpha


@pytest.mark.parametrize("carried", [-1.0, 0.0, 1.5])
def test_carried_evidence_is_no_more_than_half_of_the_whole(carried):
    """What an earlier tariff had found, at a mean of 1, keeps the mean at 1."""
    game = Game(1, rho=0.25, rho0=0.0)

    def value(state):
        return math.exp(game.test.judge(state, carried).log_evidence)

    assert game.worth(game.start(), 4, value) <= 0.5 * math.exp(carried) + 0.5 + 1e-6


def random_state(game, seed, most=40):
    """An account of a random caller, some of whose blocks are added and some not."""
    rng = np.random.default_rng(seed)
    state = game.start()
    law = rng.dirichlet(np.full(LETTERS, rng.choice([0.3, 3.0])))
    for _ in range(int(rng.integers(0, most))):
        state = advanced(state, rng.choice(LETTERS, int(rng.integers(1, 3)), p=law).tolist(), game.sizes)
        if rng.random() < 0.7:
            state = folded(state, game.test.judge(state).folded)
    return state


@settings(max_examples=60)
@given(SEEDS)
def test_the_screen_is_never_below_the_evidence(seed):
    rng = np.random.default_rng(seed)
    game = Game(seed, rho=float(rng.choice([0.0, 0.25])), rho0=0.02, widened=bool(rng.random() < 0.5))
    counts = rng.multinomial(rng.integers(0, 200, 30), rng.dirichlet(np.ones(LETTERS), 30)).astype(np.float64)
    numerators, screened = game.test._screened(counts)
    fit = ConvexNull(game.caps, game.rho).fit(counts, tolerance=1e-6)
    assert (screened >= numerators - fit.lower - 1e-6).all()


@settings(max_examples=60)
@given(SEEDS, st.sampled_from([(2, 3), (4, 8), (64, 256)]))
def test_a_cheap_verdict_is_never_above_the_whole_evidence_and_decides_the_same(seed, sizes):
    game = Game(seed, rho=0.25, rho0=0.02, sizes=sizes)
    state = random_state(game, seed)
    whole, found = game.test.total(state), game.test.judge(state)
    limit = -math.log(game.alpha)
    assert found.log_evidence <= whole + 0.3
    if abs(whole - limit) > 0.3:
        assert (found.log_evidence >= limit) == (whole >= limit)
    if found.log_evidence >= limit:
        assert found.leading in components(state)
        assert found.log_evidence >= min(whole, limit + 2 * math.log(100.0)) - 0.3
    else:
        assert found.leading is None


@settings(max_examples=60)
@given(SEEDS)
def test_adding_up_a_block_changes_the_evidence_by_what_may_be_neglected(seed):
    """Never upwards by more than the search leaves open, and downwards only where the block weighs next to nothing."""
    game = Game(seed, rho=0.25, rho0=0.02)
    state = random_state(game, seed)
    blocks = game.test.judge(state).folded
    assert {(block.restart, block.number) for block in blocks} == {
        (place, block.number) for place, block in enumerate(state.finished) if block is not None
    }
    later = folded(state, blocks)
    assert later.finished == (None,) * len(game.sizes)
    before, after = game.test.total(state), game.test.total(later)
    assert after <= before + 0.3
    assert after >= min(before, -math.log(game.alpha) + 2 * math.log(100.0)) - 0.3


def test_a_new_account_has_evidence_of_one_and_the_weights_sum_to_one():
    game = Game(0, rho=0.25, rho0=0.02, sizes=(2, 3, 4, 5, 6))
    assert game.test.total(game.start()) == pytest.approx(0.0, abs=1e-9)
    for part, log in game.test.values(game.start()):
        assert log == pytest.approx(0.0, abs=1e-9)
        assert part.log_weight == pytest.approx(math.log(0.5 if part.restart is None else 0.05))


def test_a_block_weighs_one_over_its_number_and_the_next():
    """Weights of block i: 1 / (i (i + 1)) of a tenth; whatever has ended, all weights together stay 1."""
    game = Game(0, rho=0.25, rho0=0.02, sizes=(1, 2, 3, 4, 5))
    state = game.start()
    for _ in range(12):
        state = advanced(state, [0], game.sizes)
        state = dataclasses.replace(state, finished=(None,) * 5)
    weights = {part.restart: part.log_weight for part in components(state)}
    assert weights[0] == pytest.approx(math.log(0.1 / (13 * 14)))
    assert weights[2] == pytest.approx(math.log(0.1 / (5 * 6)))
    ended = [0.1 / (i * (i + 1)) for place, number in enumerate(state.numbers) for i in range(1, number)]
    to_come = [0.1 / (number + 1) for number in state.numbers]
    assert sum(map(math.exp, weights.values())) + sum(ended) + sum(to_come) == pytest.approx(1.0)


def test_a_bank_of_honest_rows_does_not_hide_what_follows():
    """After 400 honest rows ten rows of a rare cell make a suspect by the short block; all rows together would not."""
    game = Game(2, rho=0.25, rho0=0.02, sizes=(16, 64), alpha=0.01)
    rng = np.random.default_rng(0)
    honest = game.laws.laws[0] / game.laws.laws[0].sum()
    state = game.start()
    for cell in rng.choice(LETTERS, 400, p=honest).tolist():
        state = game.after(state, cell)
    assert game.test.judge(state).leading is None
    found = None
    for _ in range(30):
        state = game.after(state, 2)
        found = game.test.judge(state)
        if found.leading is not None:
            break
    assert found.leading is not None
    assert found.leading.restart is not None
    assert game.test.values(state)[0][1] < 0.0


def test_log_sum_adds_in_the_ordinary_domain():
    assert log_sum([math.log(2.0), math.log(3.0), -math.inf]) == pytest.approx(math.log(5.0))
    assert log_sum([]) == log_sum([-math.inf]) == -math.inf


@pytest.mark.parametrize("strangers", [0, 1, 3])
def test_the_numerator_is_a_law_of_all_sequences_of_rows(strangers):
    """So that its likelihood ratio to any honest law is a supermartingale. Over all counts of 5 rows in 3 cells."""
    rng = np.random.default_rng(strangers)
    known = [
        FittedStranger(f"thief {i}", rng.multinomial(30, rng.dirichlet(np.ones(LETTERS)))) for i in range(strangers)
    ]
    numerator = EvidenceNumerator(rng.dirichlet(np.ones(LETTERS), 4), (LETTERS,), known)
    counts = np.array([(i, j, 5 - i - j) for i in range(6) for j in range(6 - i)], dtype=np.float64)
    orders = [math.factorial(5) / math.prod(math.factorial(int(n)) for n in each) for each in counts]
    assert np.exp(numerator.log(counts)) @ orders == pytest.approx(1.0)


def test_a_pure_stranger_is_found_after_fewer_rows_than_a_thinned_one():
    """The numerator of five rows that only a known stranger sends loses no more than its weight: 3/4 of it known, half pure."""
    laws = np.array([[0.6, 0.399, 0.001]])
    numerator = EvidenceNumerator(laws, (LETTERS,), [FittedStranger("thief", np.array([0, 0, 1000]))])
    pure = 5 * math.log((1.0 + 0.02 * 0.001) / 1.02)
    assert numerator.log(np.array([[0.0, 0.0, 5.0]]))[0] >= math.log(3 / 8) + pure
