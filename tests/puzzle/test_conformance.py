"""The conformance suite detects faulty puzzles."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from modeltoll.puzzle.counter import Argon2idCounter, Sha256Counter
from modeltoll.records import MachineProfile, Work
from modeltoll.testing.puzzles import check_puzzle
from modeltoll.toll_records import Solution

PROFILE = MachineProfile("test", "made up", 1000.0, {256: 1000.0})


class AcceptsAnything(Sha256Counter):
    def check(self, challenge, solution):
        return True


class SkipsTheLastPart(Sha256Counter):
    def check(self, challenge, solution):
        first = replace(challenge, parts=challenge.parts[:-1])
        return len(solution.counters) == len(challenge.parts) and super().check(first, Solution(solution.counters[:-1]))


class RepeatsSeeds(Sha256Counter):
    def make(self, work, rng):
        return super().make(work, random.Random(1))


class AsksTwice(Sha256Counter):
    def make(self, work, rng):
        return super().make(Work(2 * work.seconds, 1, 2 * work.seconds), rng)


class HidesAboveTheBound(Sha256Counter):
    def make(self, work, rng):
        challenge, solution = super().make(work, rng)
        return challenge, Solution(tuple(n + 64 for n in solution.counters), solution.secret)


class BearsAnotherName(Sha256Counter):
    def make(self, work, rng):
        challenge, solution = super().make(work, rng)
        return replace(challenge, puzzle="sha512"), solution


class PublishesItsSecret(Sha256Counter):
    """What a token could be redeemed with, without work."""

    def make(self, work, rng):
        challenge, solution = super().make(work, rng)
        return challenge, replace(solution, secret=b"".join(part.check for part in challenge.parts))

    def solve(self, challenge, control):
        return replace(super().solve(challenge, control), secret=b"".join(part.check for part in challenge.parts))


class HasNoSecret(Sha256Counter):
    def make(self, work, rng):
        challenge, solution = super().make(work, rng)
        return challenge, replace(solution, secret=b"")

    def solve(self, challenge, control):
        return replace(super().solve(challenge, control), secret=b"")


class HasOneSecret(Sha256Counter):
    """A proof of one toll would redeem every token."""

    def make(self, work, rng):
        challenge, solution = super().make(work, rng)
        return challenge, replace(solution, secret=b"s" * 16)

    def solve(self, challenge, control):
        return replace(super().solve(challenge, control), secret=b"s" * 16)


class KnowsNoSolution(Sha256Counter):
    def make(self, work, rng):
        return super().make(work, rng)[0], None


class DerivesItsSecretFromTheCounter(Sha256Counter):
    """The maker and the solver disagree."""

    def make(self, work, rng):
        challenge, solution = super().make(work, rng)
        return challenge, replace(solution, secret=bytes(8) + solution.counters[0].to_bytes(8, "big"))


class RoundsTheWorkInsteadOfTheWait(Sha256Counter):
    """The bound is the next power of two of N, which is no function of the published wait."""

    def make(self, work, rng):
        challenge, solution = Sha256Counter(PROFILE, disclose="exact").make(work, rng)
        parts = [replace(part, bound=1 << (part.bound - 1).bit_length()) for part in challenge.parts]
        return replace(challenge, parts=tuple(parts)), solution


class TakesMoreMemoryUnderSuspicion(Argon2idCounter):
    def within(self, memory_kib):
        limited = super().within(memory_kib)
        if limited is not self:
            limited._suspected_rungs = self._suspected_rungs
        return limited


@pytest.mark.parametrize(
    ("broken", "evaluations", "complaint"),
    [
        (AcceptsAnything, 40.0, "is accepted"),
        (SkipsTheLastPart, 300.0, "is accepted"),
        (RepeatsSeeds, 40.0, "seed occurs twice"),
        (AsksTwice, 20.0, "the work states"),
        (HidesAboveTheBound, 40.0, "refused"),
        (BearsAnotherName, 40.0, "another name"),
        (PublishesItsSecret, 40.0, "secret is published"),
        (HasNoSecret, 40.0, "16 bytes per part"),
        (HasOneSecret, 40.0, "one proof"),
        (KnowsNoSolution, 40.0, "neither seal nor make a token"),
        (DerivesItsSecretFromTheCounter, 40.0, "different solutions"),
        (RoundsTheWorkInsteadOfTheWait, 40.0, "shapes"),
    ],
)
def test_a_broken_puzzle_is_caught(broken, evaluations, complaint):
    with pytest.raises(AssertionError, match=complaint):
        check_puzzle(broken(PROFILE), PROFILE, random.Random(1), evaluations=evaluations, disclose="coarse")


def test_an_exact_bound_is_not_coarse():
    with pytest.raises(AssertionError, match="shapes"):
        check_puzzle(Sha256Counter(PROFILE, disclose="exact"), PROFILE, random.Random(1), disclose="coarse")


def test_a_coarse_bound_is_not_blind():
    with pytest.raises(AssertionError, match="shapes"):
        check_puzzle(Sha256Counter(PROFILE), PROFILE, random.Random(1), disclose="blind")


def test_more_memory_than_a_suspected_client_offers_is_caught():
    profile = MachineProfile("test", "made up", 1e6, {64: 1e6})
    puzzle = TakesMoreMemoryUnderSuspicion(profile, max_memory_kib=64, suspected_memory_kib=16384)
    with pytest.raises(AssertionError, match="under suspicion"):
        check_puzzle(puzzle, profile, random.Random(1), evaluations=4096.0, disclose="coarse")
