"""Precomputed evaluations."""

from __future__ import annotations

import random
import threading
from collections import Counter

import pytest
from argon2.exceptions import HashingError

from modeltoll.puzzle import counter as counters
from modeltoll.puzzle import precomputed as stocking
from modeltoll.puzzle.counter import LADDER, MAKING_SECONDS, Argon2idCounter
from modeltoll.puzzle.functions import evaluate
from modeltoll.puzzle.machine_profile import DEFAULT_PROFILE
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
    """Down to the memory whose four evaluations take 10 ms."""
    profile = MachineProfile("test", "made up", 1000.0, {256: 800.0, 512: 200.0, 1024: 100.0})
    pool = PrecomputedPool(random.Random(1), memories_kib=(512, 1024), depth=4)
    puzzle = Argon2idCounter(profile, ladder=(256, 512, 1024), max_memory_kib=1024, disclose="exact", precomputed=pool)
    pool.fill()
    rng, work = random.Random(2), Work(1.0, 1, 1.0)  # four parts at every rung
    made = [puzzle.make(work, rng)[0] for _ in range(3)]
    assert [challenge.memory_kib for challenge in made] == [1024, 512, 256]
    assert [expected_seconds(challenge, profile) for challenge in made] == pytest.approx([1.0] * 3, rel=0.03)


def test_where_the_pool_is_empty_what_takes_less_than_10_ms_is_made(evaluations):
    """One part of 5 ms is made; four of them are not."""
    profile = MachineProfile("test", "made up", 1000.0, {256: 1600.0, 512: 200.0})
    pool = PrecomputedPool(random.Random(1), memories_kib=(512,), depth=4)
    puzzle = Argon2idCounter(profile, ladder=(256, 512), max_memory_kib=512, disclose="exact", precomputed=pool)
    one, four = (puzzle.make(Work(seconds, 1, seconds), random.Random(2))[0] for seconds in (0.3, 0.4))
    assert [(challenge.memory_kib, len(challenge.parts)) for challenge in (one, four)] == [(512, 1), (256, 4)]
    assert not evaluations


def test_where_all_memories_are_precomputed_and_none_is_left_the_least_is_computed(evaluations):
    challenge, _ = counter(small(depth=0)).make(Work(0.3, 1, 0.3), random.Random(3))
    assert (challenge.memory_kib, len(challenge.parts), len(evaluations)) == (256, 4, 0)


def test_many_unpaid_tolls_burn_at_most_10_ms_each_and_a_tenth_of_a_core(monkeypatch):
    """1000 dear tolls at once, counted by the profile: the pool gives what it holds, the rest is cheap to make."""
    made = []
    monkeypatch.setattr(counters, "kept_evaluator", lambda memory: lambda seed, n: made.append(memory) or bytes(32))
    monkeypatch.setattr(stocking, "evaluator", lambda memory: lambda seed, n: bytes(32))
    pool = PrecomputedPool(random.Random(1))
    pool.fill()
    puzzle = Argon2idCounter(
        DEFAULT_PROFILE, max_memory_kib=65536, suspected_memory_kib=262144, disclose="exact", precomputed=pool
    )
    rng = random.Random(2)
    tolls = [puzzle.make(Work(120.0, 1, 120.0, surcharge=9.0), rng)[0] for _ in range(1000)]
    from_pool = [toll for toll in tolls if toll.memory_kib in PRECOMPUTED_KIB]
    assert len(from_pool) == len(PRECOMPUTED_KIB) * 32 / 4
    assert len(made) == 4 * (1000 - len(from_pool))
    assert sum(1 / DEFAULT_PROFILE.rate(memory) for memory in made) <= 1000 * MAKING_SECONDS


class FakeClocks:
    """Processor time that passes with evaluations alone, and the seconds of rest that were asked for."""

    def __init__(self, seconds):
        self.now, self.rests, self._seconds = 0.0, [], seconds

    def evaluator(self, memory):
        def evaluate(_seed, _n):
            self.now += self._seconds[memory]
            return bytes(32)

        return evaluate

    def rest(self, seconds):
        self.rests.append(seconds)
        return False


def test_refilling_takes_a_tenth_of_a_core(monkeypatch):
    """After each evaluation it rests for nine times as long."""
    clocks = FakeClocks({256: 0.01, 512: 0.03})
    monkeypatch.setattr(stocking, "evaluator", clocks.evaluator)
    pool = PrecomputedPool(random.Random(1), memories_kib=(256, 512), depth=5, thread_time=lambda: clocks.now)
    pool.fill(clocks.rest)
    assert len(clocks.rests) == 10
    assert clocks.now == pytest.approx(0.2)
    assert sum(clocks.rests) == pytest.approx(9 * clocks.now)
    assert clocks.rests[:3] == pytest.approx([0.09, 0.27, 0.09])


def test_the_refilling_thread_rests_between_evaluations(monkeypatch):
    """Its rests end at once when the context is left, though they are hours long here."""
    clocks, started = FakeClocks({256: 3600.0}), threading.Event()

    def evaluator(memory):
        started.set()
        return clocks.evaluator(memory)

    monkeypatch.setattr(stocking, "evaluator", evaluator)
    pool = PrecomputedPool(random.Random(1), memories_kib=(256,), depth=50, thread_time=lambda: clocks.now)
    with pool.refilling():
        assert started.wait(20)
    assert clocks.now == 3600.0
    assert len(pool.take(256, 1)) == 1
    assert pool.take(256, 1) == []


def test_the_emptiest_memory_is_filled_first(monkeypatch):
    order = []
    monkeypatch.setattr(stocking, "evaluator", lambda memory: lambda _s, _n: order.append(memory) or bytes(32))
    pool = PrecomputedPool(random.Random(1), memories_kib=(256, 512), depth=2)
    pool.fill()
    pool.take(512, 2)
    pool.take(256, 1)
    pool.fill()
    assert order == [256, 512, 256, 512, 512, 256, 512]


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
    assert threading.active_count() <= before  # threads of earlier tests may end meanwhile
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
    stops = iter([False, True])
    small(depth=10).fill(lambda _seconds: next(stops))
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
    assert [memory for memory in (256, 2048, 4096, 262144) if pool.covers(memory)] == [4096, 262144]
    assert tuple(memory for memory in LADDER if 4 / DEFAULT_PROFILE.rate(memory) > MAKING_SECONDS) == PRECOMPUTED_KIB
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
