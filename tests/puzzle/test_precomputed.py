"""The laws of evaluations made ahead."""

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


def counter(stock, disclose="coarse"):
    return Argon2idCounter(PROFILE, ladder=(256,), max_memory_kib=256, disclose=disclose, precomputed=stock)


@pytest.fixture
def evaluations(monkeypatch):
    """The evaluations that stocks make, counted instead of made."""
    made = []
    monkeypatch.setattr(stocking, "evaluator", lambda memory: lambda seed, n: made.append((memory, n)) or bytes(32))
    return made


@pytest.mark.parametrize("disclose", ["exact", "coarse"])
def test_puzzles_from_stock_keep_the_law_of_puzzles(disclose):
    """Solver, checker, mean and bounds: where the count begins makes no difference."""
    stock = small(depth=40)
    stock.fill()
    check_puzzle(counter(stock, disclose), PROFILE, random.Random(2), evaluations=10.0, draws=60, disclose=disclose)


def filled(depth):
    stock = small(depth=depth)
    stock.fill()
    return stock


def test_a_blank_is_an_evaluation():
    (blank,) = filled(1).take(256, 1)
    assert blank.value == evaluate(blank.seed, blank.counter, 256)


def test_what_is_in_stock_is_not_evaluated_again(evaluations):
    stock = small(depth=5)
    stock.fill()
    assert len(evaluations) == 5
    counter(stock).make(Work(0.3, 1, 0.3), random.Random(3))  # four parts
    assert len(evaluations) == 5


def test_what_is_missing_is_not_made_while_a_caller_waits(evaluations):
    """Three are there and four are asked for: none is given, and the three are there for the next."""
    stock = filled(3)
    assert stock.take(256, 4) == []
    assert len(stock.take(256, 3)) == len(evaluations) == 3


def test_where_the_stock_has_run_out_a_puzzle_has_less_memory_and_the_same_work():
    profile = MachineProfile("test", "made up", 1000.0, {256: 4000.0, 512: 2000.0, 1024: 1000.0})
    stock = PrecomputedPool(random.Random(1), memories_kib=(512, 1024), depth=4)
    puzzle = Argon2idCounter(profile, ladder=(256, 512, 1024), max_memory_kib=1024, disclose="exact", precomputed=stock)
    stock.fill()
    rng, work = random.Random(2), Work(0.1, 1, 0.1)  # four parts at every rung
    made = [puzzle.make(work, rng)[0] for _ in range(3)]
    assert [challenge.memory_kib for challenge in made] == [1024, 512, 256]
    assert [expected_seconds(challenge, profile) for challenge in made] == pytest.approx([0.1] * 3, rel=0.03)


def test_where_all_memories_are_made_ahead_and_none_is_left_the_least_is_made_at_once(evaluations):
    challenge, _ = counter(small(depth=0)).make(Work(0.3, 1, 0.3), random.Random(3))
    assert (challenge.memory_kib, len(challenge.parts), len(evaluations)) == (256, 4, 0)


def test_nothing_is_given_out_twice_even_to_threads(evaluations):
    stock, taken = filled(100), []

    def take():
        for _ in range(25):
            taken.extend(stock.take(256, 1))

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({blank.seed for blank in taken}) == len(taken) == 100


def test_it_is_kept_full_while_the_block_lasts_and_no_thread_stays(evaluations):
    before = threading.active_count()
    stock, full = small(depth=3), threading.Event()
    real = stock.fill

    def fill(stopped):
        real(stopped)
        full.set()

    stock.fill = fill
    with stock.refilling():
        for _ in range(3):
            assert full.wait(20)
            full.clear()
            stock.take(256, 2)
    assert threading.active_count() == before
    assert len(evaluations) >= 7  # three, and two for each pair that was taken and noticed


def test_a_machine_without_the_memory_is_told_of_and_asked_again(monkeypatch, caplog):
    asked = threading.Semaphore(0)

    def none(memory):
        asked.release()
        raise HashingError("Memory allocation error")

    monkeypatch.setattr(stocking, "evaluator", none)
    stock = small()
    with stock.refilling():
        for _ in range(2):
            assert asked.acquire(timeout=20)
            assert stock.take(256, 1) == []
    assert "no memory to precompute puzzles" in caplog.text


def test_filling_stops_when_it_is_told_to(evaluations):
    left = iter([False, False, True])
    small(depth=10).fill(lambda: next(left))
    assert len(evaluations) == 2


def test_the_start_tells_nothing_of_the_counter(evaluations):
    """Where the count begins modulo 16 is as good as uniform for each n: it does not even tell its last bits."""
    puzzle, rng = counter(filled(4000), "exact"), random.Random(4)
    seen = {n: Counter() for n in range(2)}
    for _ in range(4000):
        challenge, solution = puzzle.make(Work(0.0015, 1, 0.0015), rng)
        seen[solution.counters[0]][challenge.parts[0].start % 16] += 1
        assert challenge.parts[0].start >= MAX_PRECOMPUTED_BOUND - 2
    for starts in seen.values():
        mean = starts.total() / 16
        assert sum((starts[place] - mean) ** 2 / mean for place in range(16)) < 50  # chi-squared, 15 degrees: p 1e-5


def test_only_what_is_stocked_comes_from_stock(evaluations):
    """Smaller memory begins at 0, and so does work beyond what a blank leaves room for."""
    stock = PrecomputedPool(random.Random(5))
    assert [memory for memory in (256, 16384, 32768, 262144) if stock.covers(memory)] == [32768, 262144]
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
