"""Precomputed evaluations."""

from __future__ import annotations

import random
import threading
from collections import Counter

import pytest
from argon2.exceptions import HashingError

from modeltoll.puzzle import precomputed as stocking
from modeltoll.puzzle.counter import Argon2idCounter
from modeltoll.puzzle.functions import evaluate
from modeltoll.puzzle.precomputed import MAX_PRECOMPUTED_BOUND, PRECOMPUTED_KIB, PrecomputedPool
from modeltoll.puzzle.puzzle import SolveControl, expected_seconds
from modeltoll.records import MachineProfile, Work
from modeltoll.testing.puzzles import check_puzzle

PROFILE = MachineProfile("test", "made up", 1000.0, {256: 1000.0})


def small(seed=1, depth=4):
    return PrecomputedPool(random.Random(seed), memories_kib=(256,), depth=depth)


def counter(pool, disclose="coarse"):
    return Argon2idCounter(PROFILE, ladder=(256,), max_memory_kib=256, disclose=disclose, precomputed=pool)


@pytest.fixture
def evaluations(monkeypatch):
    """The evaluations of pools, counted instead of computed."""
    made = []
    monkeypatch.setattr(stocking, "evaluator", lambda memory: lambda seed, n: made.append((memory, n)) or bytes(32))
    return made


@pytest.mark.parametrize("disclose", ["exact", "coarse"])
def test_puzzles_from_the_pool_pass_the_suite(disclose):
    """Solver, checker, mean and bounds: where the count begins makes no difference."""
    pool = small(depth=40)
    pool.fill()
    check_puzzle(counter(pool, disclose), PROFILE, random.Random(2), evaluations=10.0, draws=60, disclose=disclose)


def filled(depth):
    pool = small(depth=depth)
    pool.fill()
    return pool


def test_a_precomputed_evaluation_is_an_evaluation():
    (evaluation,) = filled(1).take(256, 1)
    assert evaluation.value == evaluate(evaluation.seed, evaluation.counter, 256)


def test_what_is_in_the_pool_is_not_evaluated_again(evaluations):
    pool = small(depth=5)
    pool.fill()
    assert len(evaluations) == 5
    counter(pool).make(Work(0.3, 1, 0.3), random.Random(3))  # four parts
    assert len(evaluations) == 5


def test_what_is_missing_is_not_computed_while_a_caller_waits(evaluations):
    """Three are there and four are asked for: none is given, and the three are there for the next."""
    pool = filled(3)
    assert pool.take(256, 4) == []
    assert len(pool.take(256, 3)) == len(evaluations) == 3


def test_where_the_pool_is_empty_a_puzzle_has_less_memory_and_the_same_work():
    profile = MachineProfile("test", "made up", 1000.0, {256: 4000.0, 512: 2000.0, 1024: 1000.0})
    pool = PrecomputedPool(random.Random(1), memories_kib=(512, 1024), depth=4)
    puzzle = Argon2idCounter(profile, ladder=(256, 512, 1024), max_memory_kib=1024, disclose="exact", precomputed=pool)
    pool.fill()
    rng, work = random.Random(2), Work(0.1, 1, 0.1)  # four parts at every rung
    made = [puzzle.make(work, rng)[0] for _ in range(3)]
    assert [challenge.memory_kib for challenge in made] == [1024, 512, 256]
    assert [expected_seconds(challenge, profile) for challenge in made] == pytest.approx([0.1] * 3, rel=0.03)


def test_where_all_memories_are_precomputed_and_none_is_left_the_least_is_computed(evaluations):
    challenge, _ = counter(small(depth=0)).make(Work(0.3, 1, 0.3), random.Random(3))
    assert (challenge.memory_kib, len(challenge.parts), len(evaluations)) == (256, 4, 0)


def test_nothing_is_returned_twice_even_to_threads(evaluations):
    pool, taken = filled(100), []

    def take():
        for _ in range(25):
            taken.extend(pool.take(256, 1))

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({evaluation.seed for evaluation in taken}) == len(taken) == 100


def test_it_is_refilled_within_the_context_and_no_thread_stays(evaluations):
    before = threading.active_count()
    pool, full = small(depth=3), threading.Event()
    real = pool.fill

    def fill(stopped):
        real(stopped)
        full.set()

    pool.fill = fill
    with pool.refilling():
        for _ in range(3):
            assert full.wait(20)
            full.clear()
            pool.take(256, 2)
    assert threading.active_count() == before
    assert len(evaluations) >= 7  # three, and two for each pair that was taken and noticed


def test_a_lack_of_memory_is_logged_and_retried(monkeypatch, caplog):
    asked = threading.Semaphore(0)

    def none(memory):
        asked.release()
        raise HashingError("Memory allocation error")

    monkeypatch.setattr(stocking, "evaluator", none)
    pool = small()
    with pool.refilling():
        for _ in range(2):
            assert asked.acquire(timeout=20)
            assert pool.take(256, 1) == []
    assert "no memory to precompute puzzles" in caplog.text


def test_filling_stops_on_request(evaluations):
    left = iter([False, False, True])
    small(depth=10).fill(lambda: next(left))
    assert len(evaluations) == 2


def test_the_start_reveals_nothing_about_the_counter(evaluations):
    """The start modulo 16 is nearly uniform for each n, so that it does not reveal the last bits of n."""
    puzzle, rng = counter(filled(4000), "exact"), random.Random(4)
    seen = {n: Counter() for n in range(2)}
    for _ in range(4000):
        challenge, solution = puzzle.make(Work(0.0015, 1, 0.0015), rng)
        seen[solution.counters[0]][challenge.parts[0].start % 16] += 1
        assert challenge.parts[0].start >= MAX_PRECOMPUTED_BOUND - 2
    for starts in seen.values():
        mean = starts.total() / 16
        assert sum((starts[place] - mean) ** 2 / mean for place in range(16)) < 50  # chi-squared, 15 degrees: p 1e-5


def test_only_covered_memories_come_from_the_pool(evaluations):
    """Smaller memory begins at 0, and so does work above the largest precomputed bound."""
    pool = PrecomputedPool(random.Random(5))
    assert [memory for memory in (256, 16384, 32768, 262144) if pool.covers(memory)] == [32768, 262144]
    assert PRECOMPUTED_KIB == (32768, 65536, 131072, 262144)
    challenge, solution = counter(small(), "exact").make(Work(1e7, 1, 1e7), random.Random(6))
    assert [part.start for part in challenge.parts] == [0] * 4
    assert not evaluations
    assert max(solution.counters) < 2**53


def test_a_solver_counts_from_the_start():
    puzzle = counter(filled(1), "exact")
    challenge, solution = puzzle.make(Work(0.02, 1, 0.02), random.Random(7))
    (part,), (n,) = challenge.parts, solution.counters
    assert part.start + n > MAX_PRECOMPUTED_BOUND > part.bound
    assert puzzle.solve(challenge, SolveControl(cores=2)) == solution
