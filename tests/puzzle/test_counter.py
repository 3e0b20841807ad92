"""The laws of hidden counters."""

from __future__ import annotations

import random
import statistics
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeltoll.puzzle import functions
from modeltoll.puzzle.counter import (
    LADDER,
    MIN_EVALUATIONS,
    PARTS_ABOVE,
    Argon2idCounter,
    Sha256Counter,
)
from modeltoll.puzzle.puzzle import expected_evaluations, expected_seconds
from modeltoll.records import MachineProfile, Work
from modeltoll.testing.puzzles import check_puzzle

PROFILE = MachineProfile("test", "made up", 1000.0, {memory: 2000.0 * 256 / memory for memory in LADDER})


def work(seconds):
    return Work(seconds, 1, seconds)


@pytest.mark.parametrize("disclose", ["exact", "coarse", "blind"])
@pytest.mark.parametrize("evaluations", [1.0, 1.3, 40.0, 300.0])
def test_sha256_counters_pass_the_suite(disclose, evaluations):
    puzzle = Sha256Counter(PROFILE, disclose=disclose, blind_seconds=10.0)
    check_puzzle(puzzle, PROFILE, random.Random(5), evaluations=evaluations, disclose=disclose)


@pytest.mark.parametrize("disclose", ["exact", "coarse", "blind"])
def test_argon2id_counters_pass_the_suite(disclose):
    puzzle = Argon2idCounter(PROFILE, max_memory_kib=512, disclose=disclose, blind_seconds=10.0)
    check_puzzle(puzzle, PROFILE, random.Random(6), evaluations=10.0, draws=60, disclose=disclose)


@given(st.floats(1.0, 1e6), st.integers(0, 2**32))
def test_an_exact_bound_is_one_of_the_two_around_the_mean(evaluations, seed):
    """N is 2W - 1 per part, rounded to one of its neighbours, and each half as likely as it is near."""
    challenge, _ = Sha256Counter(PROFILE, disclose="exact").make(work(evaluations / 1000.0), random.Random(seed))
    count = 4 if len(challenge.parts) == 4 else 1
    for part in challenge.parts:
        assert abs(part.bound - (2 * evaluations / count - 1)) < 1 + 1e-6
    assert abs(expected_evaluations(challenge) - evaluations) <= count / 2 + 1e-6


def test_rounding_leaves_the_mean_exact():
    """W = 1.25 asks for N = 1 or 2, half and half: no work is lost or gained by whole numbers."""
    puzzle, rng = Sha256Counter(PROFILE, disclose="exact"), random.Random(1)
    means = [expected_evaluations(puzzle.make(work(0.00125), rng)[0]) for _ in range(4000)]
    assert set(means) == {1.0, 1.5}
    assert abs(statistics.fmean(means) - 1.25) < 0.02


@pytest.mark.parametrize(("evaluations", "parts"), [(PARTS_ABOVE - 1, 1), (PARTS_ABOVE, 1), (PARTS_ABOVE + 1, 4)])
def test_more_than_64_evaluations_are_split_in_four(evaluations, parts):
    challenge, solution = Sha256Counter(PROFILE).make(work(evaluations / 1000), random.Random(2))
    assert len(challenge.parts) == len(solution.counters) == parts


def test_four_parts_halve_the_variation():
    """0.58 with one part, 0.29 with four; no wait exceeds twice its mean."""
    rng = random.Random(3)
    for evaluations, theory in ((60.0, 0.577), (600.0, 0.289)):
        puzzle = Sha256Counter(PROFILE)
        needed = [sum(n + 1 for n in puzzle.make(work(evaluations / 1000), rng)[1].counters) for _ in range(3000)]
        assert abs(statistics.stdev(needed) / statistics.fmean(needed) - theory) < 0.02
        assert max(needed) <= 2 * evaluations


@given(st.floats(1e-4, 0.06), st.integers(0, 1 << 20))
@settings(max_examples=40)
def test_the_ladder_takes_the_most_memory_that_leaves_eight_evaluations(seconds, client_kib):
    puzzle = Argon2idCounter(PROFILE, max_memory_kib=2048)
    challenge, _ = puzzle.within(client_kib).make(work(seconds), random.Random(4))
    allowed = [memory for memory in LADDER if memory <= min(2048, client_kib)] or [256]
    fitting = [memory for memory in allowed if seconds * PROFILE.rate(memory) >= MIN_EVALUATIONS]
    assert challenge.memory_kib == max(fitting, default=256)
    assert (challenge.passes, challenge.lanes) == (1, 1)


def suspect(seconds):
    return Work(seconds, 1, seconds, surcharge=2.0)


def test_under_suspicion_the_ladder_extends_regardless_of_the_clients_memory(monkeypatch):
    """256 MiB if the work allows it, regardless of the client; all others stay within both limits."""
    monkeypatch.setattr("modeltoll.puzzle.counter.evaluator", lambda _memory: lambda _seed, _n: bytes(32))
    puzzle = Argon2idCounter(PROFILE, max_memory_kib=65536, suspected_memory_kib=262144)
    for said in (0, 1024, 1 << 20):
        asked = puzzle.within(said)
        assert asked.make(suspect(60.0), random.Random(1))[0].memory_kib == 262144
        assert asked.make(work(60.0), random.Random(1))[0].memory_kib == max(256, min(said, 65536))
    for seconds in (1e-4, 0.01, 1.0, 3.0, 60.0):  # and no higher than leaves eight evaluations
        memory = puzzle.make(suspect(seconds), random.Random(2))[0].memory_kib
        assert memory == max((m for m in LADDER if seconds * PROFILE.rate(m) >= MIN_EVALUATIONS), default=256)


def test_without_a_higher_ladder_suspicion_changes_no_memory():
    """The client's limit does not apply."""
    puzzle = Argon2idCounter(PROFILE, max_memory_kib=1024)
    assert puzzle.within(256).make(suspect(0.9), random.Random(1))[0].memory_kib == 1024
    assert puzzle.within(256).make(work(0.9), random.Random(1))[0].memory_kib == 256


def test_a_lower_ladder_is_built_once():
    puzzle = Argon2idCounter(PROFILE, max_memory_kib=4096)
    assert puzzle.within(1024) is puzzle.within(1100)
    assert puzzle.within(1 << 20) is puzzle


def test_a_coarse_bound_shows_one_bit_length_and_an_exact_one_all():
    """Coarse bounds of W = 33 .. 63 are all the same, though the work differs."""
    coarse, exact = Sha256Counter(PROFILE), Sha256Counter(PROFILE, disclose="exact")
    shown = {
        disclosed: {puzzle.make(work(w / 1000), random.Random(5))[0].parts[0].bound for w in range(33, 64)}
        for disclosed, puzzle in (("coarse", coarse), ("exact", exact))
    }
    assert shown["coarse"] == {128}
    assert len(shown["exact"]) == 31


def test_a_blind_puzzle_looks_the_same_whatever_the_work():
    """Bound, number of parts and memory are those of the maximum and the first rung, even for work above it."""
    puzzle = Argon2idCounter(PROFILE, max_memory_kib=8192, disclose="blind", blind_seconds=1.0)
    made = [puzzle.make(work(seconds), random.Random(6)) for seconds in (0.0, 0.001, 0.9, 50.0)]
    assert {(c.memory_kib, len(c.parts), c.parts[0].bound) for c, _ in made} == {(256, 1, 3999)}
    assert all(solution.counters[0] < 3999 for _, solution in made)


def test_making_costs_one_evaluation_per_part(monkeypatch):
    calls = []
    function = lambda *given: calls.append(given) or bytes(32)  # noqa: E731
    monkeypatch.setattr("modeltoll.puzzle.counter.evaluator", lambda _memory: function)
    Sha256Counter(PROFILE).make(work(1e6), random.Random(7))
    assert len(calls) == 4


def test_the_function_is_the_published_one():
    """F(n) = SHA-256(seed || n), n in 8 bytes big-endian, one half of it published, the other the secret."""
    import hashlib  # noqa: PLC0415  the law, written out

    challenge, solution = Sha256Counter(PROFILE).make(work(0.03), random.Random(8))
    (part,), (n,) = challenge.parts, solution.counters
    assert part.check + solution.secret == hashlib.sha256(part.seed + n.to_bytes(8, "big")).digest()


def test_the_published_check_holds_no_byte_of_the_key():
    """Check and secret are disjoint and of 16 bytes each."""
    value = functions.evaluate(bytes(16), 1, 0)
    assert functions.check_of(value) + functions.secret_of(value) == value
    assert len(functions.check_of(value)) == len(functions.secret_of(value)) == 16


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf"), functions.MAX_EVALUATIONS])
def test_absurd_work_is_refused(seconds):
    with pytest.raises(ValueError):
        Sha256Counter(PROFILE).make(work(seconds), random.Random(9))


def test_unusable_options_are_refused():
    with pytest.raises(ValueError, match="blind_seconds"):
        Sha256Counter(PROFILE, disclose="blind")
    with pytest.raises(ValueError, match="disclose"):
        Sha256Counter(PROFILE, disclose="loud")
    with pytest.raises(ValueError, match="rung"):
        Argon2idCounter(PROFILE, max_memory_kib=100)


def test_expected_seconds_are_the_bounds_over_the_rate():
    challenge, _ = Argon2idCounter(PROFILE, max_memory_kib=512, disclose="exact").make(work(0.02), random.Random(10))
    assert expected_seconds(challenge, PROFILE) == pytest.approx(0.02, rel=0.05)


def test_a_counter_at_its_bound_is_refused_even_where_the_check_would_confirm_it():
    puzzle = Sha256Counter(PROFILE)
    challenge, solution = puzzle.make(work(0.05), random.Random(11))
    (part,), (n,) = challenge.parts, solution.counters
    assert puzzle.check(replace(challenge, parts=(replace(part, bound=n + 1),)), solution)
    assert not puzzle.check(replace(challenge, parts=(replace(part, bound=n),)), solution)
