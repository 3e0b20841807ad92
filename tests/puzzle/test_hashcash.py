"""The laws of hashcash."""

from __future__ import annotations

import hashlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeltoll.puzzle.evaluation import largest_digest
from modeltoll.puzzle.hashcash import Hashcash, bits_bound
from modeltoll.puzzle.puzzle import Watch, expected_evaluations
from modeltoll.records import MachineProfile, Solution, Work
from modeltoll.testing.puzzles import check_puzzle

PROFILE = MachineProfile("test", "made up", 1000.0, {256: 1000.0})


def work(seconds):
    return Work(seconds, 1, seconds)


@pytest.mark.parametrize("evaluations", [1.0, 1.5, 100.0])
def test_hashcash_keeps_the_law_of_puzzles(evaluations):
    check_puzzle(Hashcash(PROFILE), PROFILE, random.Random(1), evaluations=evaluations)


@given(st.integers(1, 2**48), st.binary(min_size=32, max_size=32))
def test_the_target_is_the_product_with_the_bound(bound, digest):
    """A digest will do exactly where it, as a big-endian integer, times the bound stays below 2^256."""
    assert (digest <= largest_digest(bound)) == (int.from_bytes(digest, "big") * bound < 2**256)


@given(st.integers(0, 48))
def test_a_power_of_two_means_leading_zero_bits(bits):
    assert int.from_bytes(largest_digest(bits_bound(bits)), "big").bit_length() == 256 - bits


@pytest.mark.parametrize("bits", [-1, 49])
def test_bits_beyond_reason_are_refused(bits):
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


def test_the_solution_is_the_first_digest_below_the_target():
    challenge, _ = Hashcash(PROFILE).make(work(0.7), random.Random(4))
    (part,) = challenge.parts
    digests = (hashlib.sha256(part.seed + n.to_bytes(8, "big")).digest() for n in range(2**20))
    first = next(n for n, digest in enumerate(digests) if int.from_bytes(digest, "big") * part.bound < 2**256)
    assert Hashcash(PROFILE).solve(challenge, Watch()) == Solution((first,))


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf"), 1e18])
def test_absurd_work_is_refused(seconds):
    with pytest.raises(ValueError):
        Hashcash(PROFILE).make(work(seconds), random.Random(5))
