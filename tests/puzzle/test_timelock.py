"""The laws of time locks."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeltoll.errors import SolveStopped, TokenRefused, TollMalformed
from modeltoll.puzzle.puzzle import SolveControl, expected_evaluations, expected_seconds
from modeltoll.puzzle.seal import (
    KeyRing,
    RedeemClaim,
    decrypt_token,
    digest_proof,
    encrypt_token,
    open_answer,
    proof_of,
    redeem_claim,
    seal_answer,
)
from modeltoll.puzzle.solver import solve, solve_timelock
from modeltoll.puzzle.squaring import square_repeatedly, squarers, time_lock_base, time_lock_value
from modeltoll.puzzle.timelock import TimeLock, Trapdoor
from modeltoll.records import Answer, MachineProfile, Work
from modeltoll.testing.puzzles import check_puzzle
from modeltoll.toll_records import Solution
from modeltoll.wire import Redemption

PROFILE = MachineProfile("test", "made up", 1000.0, {256: 1000.0}, squarings=1000.0)
TRAPDOOR = Trapdoor.generate()
LOCK = TimeLock(PROFILE, TRAPDOOR)


def work(seconds):
    return Work(seconds, 1, seconds)


@pytest.fixture(params=squarers(), ids=lambda squarer: squarer.name)
def squarer(request):
    return request.param


@pytest.mark.parametrize("evaluations", [1.0, 1.5, 100.25])
def test_time_locks_pass_the_suite(evaluations):
    check_puzzle(LOCK, replace(PROFILE, sha256=PROFILE.squarings), random.Random(1), evaluations=evaluations, draws=100)


@given(st.integers(1, 700), st.binary(min_size=16, max_size=16))
def test_the_trapdoor_gives_the_same_result(squarings, seed):
    """By definition: x, squared so many times, one after the other."""
    x = time_lock_base(seed, TRAPDOOR.modulus)
    slow = x
    for _ in range(squarings):
        slow = slow * slow % TRAPDOOR.modulus
    assert TRAPDOOR.power(x, squarings) == slow


@pytest.mark.parametrize("squarings", [1, 2, 255, 256, 257, 5000])
def test_every_squarer_gives_the_value_of_the_trapdoor(squarer, squarings):
    challenge, solution = LOCK.make(work(squarings / 1000), random.Random(2))
    assert challenge.parts[0].bound == squarings
    assert solve_timelock(challenge, SolveControl(), squarer) == solution


def test_the_length_is_known_beforehand_and_never_varies():
    """No disclosure can hide it: it is the work."""
    made = [LOCK.make(work(0.25), random.Random(seed))[0] for seed in range(20)]
    assert {expected_evaluations(challenge) for challenge in made} == {250}
    assert expected_seconds(made[0], PROFILE) == 0.25
    assert expected_seconds(made[0], replace(PROFILE, squarings=0.0)) == float("inf")


def test_a_second_core_changes_nothing():
    challenge, solution = LOCK.make(work(3.0), random.Random(3))
    assert solve(challenge, SolveControl(cores=2)) == solve(challenge, SolveControl()) == solution


def test_it_seals_an_answer():
    answer, rng = Answer(200, "text/plain", b"42"), random.Random(4)
    challenge, solution = LOCK.make(work(0.5), rng)
    payload = seal_answer(answer, solution, b"the challenge", rng)
    assert open_answer(payload, LOCK.solve(challenge, SolveControl()), b"the challenge").answer == answer


def test_its_proof_redeems_a_token_and_its_public_counter_does_not():
    answer, (challenge, solution) = Answer(200, "", b"42"), LOCK.make(work(0.5), random.Random(5))
    ring, rng = KeyRing((bytes(32),)), random.Random(6)
    claim = RedeemClaim(answer, challenge, digest_proof(proof_of(solution)), 1e9, "key:a", b"")
    opened = decrypt_token(ring, encrypt_token(ring, claim, rng), "key:a", 1.0)
    assert opened == claim
    with pytest.raises(TokenRefused):
        redeem_claim(opened, Redemption(b"", counters=solution.counters))
    proof = proof_of(LOCK.solve(challenge, SolveControl()))
    assert redeem_claim(opened, Redemption(b"", proof=proof)) == answer


def test_only_its_own_locks_and_values_are_confirmed():
    challenge, solution = LOCK.make(work(0.1), random.Random(7))
    changed = bytes((solution.secret[0] ^ 1,)) + solution.secret[1:]
    assert LOCK.check(challenge, solution)
    assert not LOCK.check(challenge, Solution(solution.counters, changed))
    assert not LOCK.check(challenge, Solution(solution.counters))
    assert not TimeLock(PROFILE, Trapdoor.generate()).check(challenge, solution)


@pytest.mark.parametrize("change", ["seed", "bound", "check", "modulus"])
def test_a_changed_lock_does_not_open(change):
    challenge, solution = LOCK.make(work(0.1), random.Random(8))
    (part,) = challenge.parts
    changed = {
        "seed": replace(challenge, parts=(replace(part, seed=b"x" * 16),)),
        "bound": replace(challenge, parts=(replace(part, bound=part.bound - 1),)),
        "check": replace(challenge, parts=(replace(part, check=b"x" * 16),)),
        "modulus": replace(challenge, modulus=bytes((challenge.modulus[0] ^ 1,)) + challenge.modulus[1:]),
    }[change]
    with pytest.raises(TollMalformed):
        solve(changed, SolveControl())
    assert not LOCK.check(changed, solution) or change == "check"


@pytest.mark.parametrize("modulus", [b"", b"\xff", b"\xff" * 255])
def test_a_modulus_of_another_size_is_refused_before_any_work(modulus):
    challenge, _ = LOCK.make(work(0.1), random.Random(9))
    with pytest.raises(TollMalformed):
        solve(replace(challenge, modulus=modulus), SolveControl())


def test_it_stops_between_two_chunks_on_request(squarer):
    challenge, _ = LOCK.make(work(1e9), random.Random(10))
    heard = []
    with pytest.raises(SolveStopped):
        solve_timelock(
            challenge,
            SolveControl(progress=lambda done, _: heard.append(done), cancelled=lambda: len(heard) == 3),
            squarer,
        )
    assert heard == [0, squarer.chunk, 2 * squarer.chunk]


def test_squaring_ends_at_the_last_squaring(squarer):
    challenge, _ = LOCK.make(work(0.3), random.Random(11))
    x = time_lock_base(challenge.parts[0].seed, TRAPDOOR.modulus)
    value = square_repeatedly(challenge, challenge.parts[0], lambda _done: None, squarer)
    assert value == time_lock_value(pow(x, 1 << 300, TRAPDOOR.modulus))


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf"), 1e18])
def test_absurd_work_is_refused(seconds):
    with pytest.raises(ValueError):
        LOCK.make(work(seconds), random.Random(12))


def test_unusable_trapdoors_and_profiles_are_refused():
    with pytest.raises(ValueError, match="2048"):
        Trapdoor(3, 5)
    with pytest.raises(ValueError, match="squarings"):
        TimeLock(replace(PROFILE, squarings=0.0), TRAPDOOR)


def test_the_primes_are_not_shown():
    assert str(TRAPDOOR.p) not in repr(TRAPDOOR)
