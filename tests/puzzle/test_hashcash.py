"""The laws of hashcash."""

from __future__ import annotations

import hashlib
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeltoll.errors import TokenExpired, TokenRefused
from modeltoll.puzzle.functions import largest_digest
from modeltoll.puzzle.hashcash import Hashcash, bits_bound
from modeltoll.puzzle.puzzle import SolveControl, expected_evaluations
from modeltoll.puzzle.seal import KeyRing, RedeemClaim, decrypt_token, encrypt_token, redeem_claim
from modeltoll.records import Answer, MachineProfile, Work
from modeltoll.testing.puzzles import check_puzzle
from modeltoll.toll_records import Solution
from modeltoll.wire import Redemption

PROFILE = MachineProfile("test", "made up", 1000.0, {256: 1000.0})
ANSWER = Answer(200, "application/json", b'{"y": 1}')
RING = KeyRing((b"k" * 32,))
NOW = 1_750_000_000.0


def work(seconds):
    return Work(seconds, 1, seconds)


DIGESTS = {"sha256": (hashlib.sha256, 256), "sha1": (hashlib.sha1, 160)}
both = pytest.mark.parametrize("digest", DIGESTS)


@both
@pytest.mark.parametrize("evaluations", [1.0, 1.5, 100.0])
def test_hashcash_passes_the_suite(evaluations, digest):
    check_puzzle(Hashcash(PROFILE, digest=digest), PROFILE, random.Random(1), evaluations=evaluations)


@both
@given(st.integers(1, 2**48), st.binary(min_size=32, max_size=32))
def test_the_target_is_the_product_with_the_bound(digest, bound, value):
    """A digest will do exactly where it, as a big-endian integer, times the bound stays below 2 to its bits."""
    _, bits = DIGESTS[digest]
    value = value[: bits // 8]
    largest = largest_digest(bound, Hashcash(PROFILE, digest=digest).name)
    assert (value <= largest) == (int.from_bytes(value, "big") * bound < 2**bits)


@both
@given(st.integers(0, 48))
def test_a_power_of_two_means_leading_zero_bits(digest, bits):
    largest = largest_digest(bits_bound(bits), Hashcash(PROFILE, digest=digest).name)
    assert int.from_bytes(largest, "big").bit_length() == DIGESTS[digest][1] - bits


@pytest.mark.parametrize("bits", [-1, 49])
def test_bits_out_of_range_are_refused(bits):
    with pytest.raises(ValueError):
        bits_bound(bits)


@given(st.floats(0.001, 1e9))
def test_the_paper_profile_rounds_down_to_whole_bits(seconds):
    challenge, solution = Hashcash(PROFILE, bits_only=True).make(work(seconds), random.Random(2))
    bound = challenge.parts[0].bound
    assert solution is None
    assert bound & (bound - 1) == 0
    assert bound <= max(1.0, seconds * 1000.0) < 2 * bound


@given(st.floats(0.001, 1e9))
def test_without_it_the_work_has_no_steps(seconds):
    challenge, _ = Hashcash(PROFILE).make(work(seconds), random.Random(3))
    assert abs(expected_evaluations(challenge) - seconds * 1000.0) < 1


@both
def test_the_solution_is_the_first_digest_below_the_target(digest):
    puzzle, (function, bits) = Hashcash(PROFILE, digest=digest), DIGESTS[digest]
    challenge, _ = puzzle.make(work(0.7), random.Random(4))
    (part,) = challenge.parts
    digests = (function(part.seed + n.to_bytes(8, "big")).digest() for n in range(2**20))
    first = next(n for n, value in enumerate(digests) if int.from_bytes(value, "big") * part.bound < 2**bits)
    assert puzzle.solve(challenge, SolveControl()) == Solution((first,))


def test_the_papers_profile_asks_for_leading_zero_bits_of_sha1():
    """floor(log2 700) = 9 of them, over the challenge string and the counter."""
    puzzle = Hashcash(PROFILE, digest="sha1", bits_only=True)
    challenge, _ = puzzle.make(work(0.7), random.Random(5))
    (n,) = puzzle.solve(challenge, SolveControl()).counters
    value = hashlib.sha1(challenge.parts[0].seed + n.to_bytes(8, "big")).digest()
    assert challenge.puzzle == "hashcash-sha1"
    assert int.from_bytes(value, "big") < 2 ** (160 - 9)


def test_another_digest_is_refused():
    with pytest.raises(ValueError, match="digest"):
        Hashcash(PROFILE, digest="md5")


def test_the_two_digests_are_two_puzzles():
    """A solution of one is not a solution of the other."""
    old, new = Hashcash(PROFILE, digest="sha1"), Hashcash(PROFILE)
    challenge, _ = old.make(work(50.0), random.Random(6))
    solution = old.solve(challenge, SolveControl())
    assert old.check(challenge, solution)
    assert not new.check(challenge, solution)
    assert not new.check(replace(challenge, puzzle=new.name), solution)


@pytest.fixture(params=DIGESTS)
def issued(request):
    """A token for a challenge of the server's, and the counters that solve it."""
    rng = random.Random(7)
    puzzle = Hashcash(PROFILE, digest=request.param)
    challenge, _ = puzzle.make(work(5.0), rng)
    claim = RedeemClaim(ANSWER, challenge, b"", NOW + 60, "key:alice", b"q" * 32, issued=NOW)
    return encrypt_token(RING, claim, rng), puzzle.solve(challenge, SolveControl()).counters, puzzle, claim


def redeemed(token, counters, *, now=NOW + 1, caller="key:alice"):
    return redeem_claim(decrypt_token(RING, token, caller, now), Redemption(token, counters=counters))


def test_the_solution_of_the_issued_challenge_buys_its_answer(issued):
    token, counters, *_ = issued
    assert redeemed(token, counters) == ANSWER


def test_a_solution_shown_again_buys_the_same_bytes_and_nothing_else(issued):
    """Reused for its own toll there is nothing to gain; for any other toll it is refused."""
    token, counters, puzzle, claim = issued
    assert redeemed(token, counters) == redeemed(token, counters) == ANSWER
    rng = random.Random(8)
    other = replace(claim, answer=Answer(200, "text/plain", b"dearer"), challenge=puzzle.make(work(5.0), rng)[0])
    with pytest.raises(TokenRefused):
        redeemed(encrypt_token(RING, other, rng), counters)


def test_a_self_made_challenge_is_refused(issued):
    """A challenge of the caller's own is useless without a key to put it into a token."""
    _, _, puzzle, claim = issued
    rng = random.Random(9)
    easy, _ = puzzle.make(work(0.001), rng)
    forged = encrypt_token(KeyRing((b"f" * 32,)), replace(claim, challenge=easy), rng)
    with pytest.raises(TokenRefused):
        redeemed(forged, puzzle.solve(easy, SolveControl()).counters)


def test_a_solution_made_before_its_challenge_is_refused(issued):
    """Work done ahead, on seeds of the caller's own, solves no challenge whose seed the server draws later."""
    token, counters, puzzle, _ = issued
    ahead = {
        puzzle.solve(puzzle.make(work(5.0), random.Random(seed))[0], SolveControl()).counters for seed in range(20, 30)
    }
    for stamp in ahead - {counters}:
        with pytest.raises(TokenRefused):
            redeemed(token, stamp)


def test_an_early_solution_is_refused(issued):
    """A token that says it will be issued in the future: solutions cannot be stockpiled."""
    token, counters, *_ = issued
    assert redeemed(token, counters, now=NOW - 59) == ANSWER  # two gateways' clocks may differ so much
    with pytest.raises(TokenRefused):
        redeemed(token, counters, now=NOW - 61)


def test_a_late_solution_is_refused(issued):
    token, counters, *_ = issued
    assert redeemed(token, counters, now=NOW + 59) == ANSWER
    with pytest.raises(TokenExpired):
        redeemed(token, counters, now=NOW + 60)


def test_a_solution_is_its_callers_alone(issued):
    token, counters, *_ = issued
    with pytest.raises(TokenRefused):
        redeemed(token, counters, caller="key:mallory")


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf"), 1e18])
def test_absurd_work_is_refused(seconds):
    with pytest.raises(ValueError):
        Hashcash(PROFILE).make(work(seconds), random.Random(5))
