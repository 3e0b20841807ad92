"""The laws of hidden counters."""

from __future__ import annotations

import math
import random
import statistics
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency

from modeltoll.puzzle import functions
from modeltoll.puzzle.counter import (
    LADDER,
    MAKING_SECONDS,
    MIN_EVALUATIONS,
    PARTS_ABOVE,
    Argon2idCounter,
    Sha256Counter,
)
from modeltoll.puzzle.machine_profile import DEFAULT_PROFILE
from modeltoll.puzzle.precomputed import PrecomputedEvaluation, PrecomputedPool
from modeltoll.puzzle.puzzle import expected_evaluations, expected_seconds, published_wait
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


@pytest.mark.parametrize("disclose", ["exact", "coarse"])
@pytest.mark.parametrize(("evaluations", "parts"), [(PARTS_ABOVE, 1), (PARTS_ABOVE + 1, 4)])
def test_more_than_64_evaluations_are_split_in_four(evaluations, parts, disclose):
    """As many as half the published wait holds. This machine does 1024 a second, so that both ends are 2^n seconds."""
    puzzle = Sha256Counter(MachineProfile("test", "made up", 1024.0, {256: 1.0}), disclose=disclose)
    challenge, solution = puzzle.make(work(evaluations / 1024), random.Random(2))
    assert len(challenge.parts) == len(solution.counters) == parts


def test_four_parts_halve_the_variation():
    """0.58 with one part, 0.29 with four; no wait exceeds twice its mean."""
    rng = random.Random(3)
    for evaluations, theory in ((60.0, 0.577), (600.0, 0.289)):
        puzzle = Sha256Counter(PROFILE)
        needed = [sum(n + 1 for n in puzzle.make(work(evaluations / 1000), rng)[1].counters) for _ in range(3000)]
        assert abs(statistics.stdev(needed) / statistics.fmean(needed) - theory) < 0.02
        assert max(needed) <= 2 * evaluations


def fitting(seconds, limit, disclose="coarse", profile=PROFILE):
    """The memory by the definition: the most that leaves 8 evaluations and is made within 10 ms."""
    half = published_wait(seconds, disclose) / 2
    usable = [memory for memory in LADDER if memory <= limit and half * profile.rate(memory) >= MIN_EVALUATIONS]
    quick = [
        memory
        for memory in usable
        if (4 if half * profile.rate(memory) > PARTS_ABOVE else 1) / profile.rate(memory) <= MAKING_SECONDS
    ]
    return max(quick, default=LADDER[0])


@given(st.floats(1e-4, 0.06), st.integers(0, 1 << 20), st.sampled_from(["exact", "coarse"]))
@settings(max_examples=40)
def test_the_ladder_takes_the_most_memory_that_leaves_eight_evaluations(seconds, client_kib, disclose):
    puzzle = Argon2idCounter(PROFILE, max_memory_kib=2048, disclose=disclose)
    challenge, _ = puzzle.within(client_kib).make(work(seconds), random.Random(4))
    assert challenge.memory_kib == fitting(seconds, min(2048, client_kib), disclose)
    assert (challenge.passes, challenge.lanes) == (1, 1)


def suspect(seconds):
    return Work(seconds, 1, seconds, surcharge=2.0)


@pytest.fixture
def evaluations(monkeypatch):
    """The memory of every evaluation of a maker, which is counted instead of computed."""
    made = []
    monkeypatch.setattr(
        "modeltoll.puzzle.counter.kept_evaluator", lambda memory: lambda _seed, _n: made.append(memory) or bytes(32)
    )
    return made


def endless_pool():
    """A pool that is never empty."""
    pool = PrecomputedPool(random.Random(1))
    pool.take = lambda _memory, count: [PrecomputedEvaluation(bytes([n]) * 16, 2**40, bytes(32)) for n in range(count)]
    return pool


def test_under_suspicion_no_more_memory_is_asked_than_the_client_offers_down_to_8_mib(evaluations):
    """256 MiB if the work allows it and the client has it; the work is the same, with more evaluations."""
    puzzle = Argon2idCounter(
        PROFILE, max_memory_kib=65536, suspected_memory_kib=262144, disclose="exact", precomputed=endless_pool()
    )
    for said in (0, 1024, 8192, 20000, 65536, 131072, 1 << 20):
        asked = puzzle.within(said)
        challenge, _ = asked.make(suspect(60.0), random.Random(1))
        assert challenge.memory_kib == max(memory for memory in LADDER if memory <= max(said, 8192))
        assert expected_seconds(challenge, PROFILE) == pytest.approx(60.0, rel=0.02)
        honest, _ = asked.make(work(60.0), random.Random(1))
        assert honest.memory_kib == max((memory for memory in LADDER if memory <= min(said, 65536)), default=64)
    for seconds in (1e-4, 0.01, 1.0, 3.0, 60.0):  # and no higher than leaves eight evaluations
        memory = puzzle.make(suspect(seconds), random.Random(2))[0].memory_kib
        assert memory == max((m for m in LADDER if seconds * PROFILE.rate(m) >= MIN_EVALUATIONS), default=64)


def test_without_a_higher_ladder_suspicion_raises_memory_only_to_the_least_of_the_suspected(evaluations):
    puzzle = Argon2idCounter(PROFILE, max_memory_kib=1024)
    assert puzzle.within(256).make(suspect(0.04), random.Random(1))[0].memory_kib == fitting(0.04, 1024)
    assert puzzle.within(256).make(work(0.04), random.Random(1))[0].memory_kib == fitting(0.04, 256)


@given(st.floats(1e-5, 1e4), st.booleans(), st.integers(0, 1 << 18))
@settings(max_examples=60)
def test_making_takes_at_most_10_ms_by_the_profile(seconds, suspected, client_kib):
    """Counted, not timed: the evaluations of a puzzle over the profile's rate at its memory."""
    made = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "modeltoll.puzzle.counter.kept_evaluator", lambda memory: lambda _s, _n: made.append(memory) or bytes(32)
        )
        puzzle = Argon2idCounter(DEFAULT_PROFILE, max_memory_kib=65536, suspected_memory_kib=262144)
        asked = suspect(seconds) if suspected else work(seconds)
        puzzle.within(client_kib).make(asked, random.Random(3))
    assert len(made) in (1, 4)
    assert sum(1 / DEFAULT_PROFILE.rate(memory) for memory in made) <= MAKING_SECONDS


OCTAVE = [0.5 + step / 200 for step in range(1, 101)]  # of one power of two, without its lower end


def shape(challenge):
    return (challenge.puzzle, challenge.memory_kib, tuple(part.bound for part in challenge.parts))


@pytest.mark.parametrize("suspected", [False, True])
@pytest.mark.parametrize("kind", [Sha256Counter, Argon2idCounter])
@pytest.mark.parametrize("exponent", range(-14, 5))
def test_all_works_of_one_octave_have_challenges_of_one_shape(kind, exponent, suspected, evaluations):
    """Memory, parts and bounds are functions of the published wait. The octaves differ from each other."""
    puzzle, rng = kind(DEFAULT_PROFILE), random.Random(4)
    make = suspect if suspected else work
    shapes = {shape(puzzle.make(make(share * 2.0**exponent), rng)[0]) for share in OCTAVE}
    above, _ = puzzle.make(make(1.01 * 2.0**exponent), rng)
    assert len(shapes) == 1
    assert shape(above) not in shapes


def seen_of(puzzle, seconds, seed, draws=600):
    """Counts of what a thief may sort challenges by: the shape, and the low bits of the seed."""
    rng = random.Random(seed)
    made = [puzzle.make(work(seconds), rng)[0] for _ in range(draws)]
    return Counter((shape(challenge), challenge.parts[0].seed[0] % 4) for challenge in made)


def p_of(first, second):
    """P-value of a chi-squared test that two counts are of one law."""
    columns = sorted(first.keys() | second.keys())
    return chi2_contingency([[counts[column] for column in columns] for counts in (first, second)]).pvalue


@pytest.mark.parametrize(("seconds", "other"), [(0.26, 0.49), (0.0325, 0.062), (0.00026, 0.00048)])
def test_the_shape_tells_nothing_within_an_octave(seconds, other):
    """Not even by its distribution over many puzzles; the same test finds the difference between exact bounds."""
    for puzzle in (
        Sha256Counter(PROFILE),
        Argon2idCounter(PROFILE, max_memory_kib=64),
        Sha256Counter(PROFILE, disclose="blind", blind_seconds=1.0),
    ):
        assert p_of(seen_of(puzzle, seconds, 1), seen_of(puzzle, other, 2)) > 1e-4
    if seconds > 0.001:  # the exact bounds of less than one evaluation are equal
        exact = Sha256Counter(PROFILE, disclose="exact")
        assert p_of(seen_of(exact, seconds, 1), seen_of(exact, other, 2)) < 1e-12


@given(st.floats(1e-3, 1e3), st.integers(0, 2**32))
def test_the_range_of_a_counter_is_within_its_bound(seconds, seed):
    challenge, solution = Sha256Counter(PROFILE).make(work(seconds), random.Random(seed))
    assert all(n < part.bound for part, n in zip(challenge.parts, solution.counters, strict=True))
    assert expected_seconds(challenge, PROFILE) <= published_wait(seconds, "coarse") / 2 + 1e-3


@pytest.mark.parametrize("seconds", [0.0013, 0.0021, 0.0333, 0.07, 0.5001, 0.9])
def test_a_coarse_bound_leaves_the_work_exact(seconds):
    """The mean of the evaluations that are needed is the work, whatever the bound says."""
    puzzle, rng = Sha256Counter(PROFILE), random.Random(6)
    needed = [sum(n + 1 for n in puzzle.make(work(seconds), rng)[1].counters) for _ in range(3000)]
    error = statistics.stdev(needed) / len(needed) ** 0.5
    assert abs(statistics.fmean(needed) - 1000 * seconds) < 4.5 * error + 1e-9


@given(st.floats(0, 1e7))
@example(0.5)
@example(2.0**-21)
def test_the_published_wait_of_coarse_tolls_is_the_next_power_of_two_of_seconds(seconds):
    wait = published_wait(seconds, "coarse")
    assert math.frexp(wait)[0] == 0.5
    assert 2 * seconds <= wait
    assert wait < 4 * seconds or wait == 2.0**-20
    assert published_wait(seconds, "exact") == 2 * seconds
    assert published_wait(seconds, "blind", 3.0) == 6.0


@pytest.mark.parametrize("seconds", [float("inf"), float("nan"), -1.0, 1e308])
def test_the_published_wait_of_absurd_work_is_a_number(seconds):
    assert 0 < published_wait(seconds, "coarse") <= 2.0**60


def test_a_lower_ladder_is_built_once():
    puzzle = Argon2idCounter(PROFILE, max_memory_kib=4096)
    assert puzzle.within(1024) is puzzle.within(1100)
    assert puzzle.within(1 << 20) is puzzle


def test_a_coarse_bound_shows_one_octave_and_an_exact_one_all():
    """Coarse bounds of W = 32 .. 62 are all the same, though the work differs: 1/16 s of 1000 evaluations a second."""
    coarse, exact = Sha256Counter(PROFILE), Sha256Counter(PROFILE, disclose="exact")
    shown = {
        disclosed: {puzzle.make(work(w / 1000), random.Random(5))[0].parts[0].bound for w in range(32, 63)}
        for disclosed, puzzle in (("coarse", coarse), ("exact", exact))
    }
    assert shown["coarse"] == {124}
    assert len(shown["exact"]) == 31


def test_a_blind_puzzle_looks_the_same_whatever_the_work():
    """Bound, number of parts and memory are those of the maximum and the first rung, even for work above it."""
    puzzle = Argon2idCounter(PROFILE, max_memory_kib=8192, disclose="blind", blind_seconds=1.0)
    made = [
        puzzle.make(make(seconds), random.Random(6)) for seconds in (0.0, 0.001, 0.9, 50.0) for make in (work, suspect)
    ]
    assert {(c.memory_kib, len(c.parts), c.parts[0].bound) for c, _ in made} == {(64, 1, 15999)}
    assert all(solution.counters[0] < 15999 for _, solution in made)
    assert made[-1][1].counters[0] <= 2 * 8000


def test_making_costs_one_evaluation_per_part(monkeypatch):
    calls = []
    function = lambda *given: calls.append(given) or bytes(32)  # noqa: E731
    monkeypatch.setattr("modeltoll.puzzle.counter.kept_evaluator", lambda _memory: function)
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
        Argon2idCounter(PROFILE, max_memory_kib=50)


def test_expected_seconds_are_the_bounds_over_the_rate():
    challenge, _ = Argon2idCounter(PROFILE, max_memory_kib=512, disclose="exact").make(work(0.02), random.Random(10))
    assert expected_seconds(challenge, PROFILE) == pytest.approx(0.02, rel=0.05)


def test_a_counter_at_its_bound_is_refused_even_where_the_check_would_confirm_it():
    puzzle = Sha256Counter(PROFILE)
    challenge, solution = puzzle.make(work(0.05), random.Random(11))
    (part,), (n,) = challenge.parts, solution.counters
    assert puzzle.check(replace(challenge, parts=(replace(part, bound=n + 1),)), solution)
    assert not puzzle.check(replace(challenge, parts=(replace(part, bound=n),)), solution)
