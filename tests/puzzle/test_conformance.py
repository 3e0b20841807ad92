"""The conformance suite detects faulty puzzles."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from modeltoll.puzzle.counter import Sha256Counter
from modeltoll.records import MachineProfile, Solution, Work
from modeltoll.testing.puzzles import check_puzzle

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


@pytest.mark.parametrize(
    ("broken", "evaluations", "complaint"),
    [
        (AcceptsAnything, 40.0, "is accepted"),
        (SkipsTheLastPart, 300.0, "is accepted"),
        (RepeatsSeeds, 40.0, "seed occurs twice"),
        (AsksTwice, 20.0, "the work states"),
        (HidesAboveTheBound, 40.0, "refused"),
        (BearsAnotherName, 40.0, "another name"),
    ],
)
def test_a_broken_puzzle_is_caught(broken, evaluations, complaint):
    with pytest.raises(AssertionError, match=complaint):
        check_puzzle(broken(PROFILE), PROFILE, random.Random(1), evaluations=evaluations, disclose="coarse")


def test_an_exact_bound_is_not_coarse():
    with pytest.raises(AssertionError, match="power of two"):
        check_puzzle(Sha256Counter(PROFILE, disclose="exact"), PROFILE, random.Random(1), disclose="coarse")


def test_a_coarse_bound_is_not_blind():
    """Work on the edge of two powers of two shows both of them."""
    with pytest.raises(AssertionError, match="blind"):
        check_puzzle(Sha256Counter(PROFILE), PROFILE, random.Random(1), evaluations=32.75, disclose="blind")
