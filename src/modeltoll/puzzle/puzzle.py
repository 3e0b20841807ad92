"""The plug of the puzzle room."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from modeltoll.errors import SolveStopped

if TYPE_CHECKING:
    import random

    from modeltoll.records import Challenge, MachineProfile, Progress, Solution, Work

__all__ = ["Puzzle", "SolveControl", "expected_evaluations", "expected_seconds"]


@dataclass(frozen=True, slots=True)
class SolveControl:
    """How a solver is watched: who hears of its progress, when it must stop, on how many cores it may work.

    ``progress`` receives (evaluations done, most that can be needed; 0 where there is no such bound).
    ``deadline`` is in seconds of ``clock``.
    """

    progress: Progress | None = None
    deadline: float | None = None
    cancelled: Callable[[], bool] | None = None
    cores: int = 1
    clock: Callable[[], float] = time.monotonic

    def check(self, done: int, most: int) -> None:
        """Report progress, and stop where it is asked for.

        Raises:
            SolveStopped: cancelled, or past the deadline.
        """
        if self.progress is not None:
            self.progress(done, most)
        if self.cancelled is not None and self.cancelled():
            raise SolveStopped("the work was cancelled")
        if self.deadline is not None and self.clock() >= self.deadline:
            raise SolveStopped("the work was not done before its deadline")


class Puzzle(Protocol):
    """A maker of puzzles, without memory of those it made."""

    @property
    def name(self) -> str:
        """The puzzle's name on the wire."""

    def within(self, memory_kib: int) -> Puzzle:
        """The same puzzle for a client that has so much memory, in KiB; itself where memory makes no difference."""

    def make(self, work: Work, rng: random.Random) -> tuple[Challenge, Solution | None]:
        """A fresh puzzle whose expected work is ``work.seconds``, with its solution where the maker knows it.

        ``rng`` is ``random.SystemRandom()`` outside of tests: whoever foresees it need not do the work.

        Raises:
            ValueError: the work is negative, not finite, or more than a puzzle can carry.
        """

    def solve(self, challenge: Challenge, watch: SolveControl) -> Solution:
        """Do the work.

        Raises:
            SolveStopped: cancelled, or past the deadline.
            TollMalformed: no counter below the published bound solves it.
        """

    def check(self, challenge: Challenge, solution: Solution) -> bool:
        """Whether the counters solve the challenge, found out anew (one evaluation per part)."""


def expected_evaluations(challenge: Challenge) -> float:
    """The mean number of evaluations, as far as the published bounds tell.

    A hidden counter below n takes (n + 1) / 2 on average, a hashcash part n, a time lock the squarings that it names.
    """
    if challenge.modulus:
        return sum(part.bound for part in challenge.parts)
    return sum((part.bound + 1) / 2 if part.check else part.bound for part in challenge.parts)


def expected_seconds(challenge: Challenge, profile: MachineProfile) -> float:
    """The mean wait on one core of the profile's machine, as far as the published bounds tell, in seconds.

    It is endless for a time lock where the profile does not know how fast its machine squares.
    """
    rate = profile.squarings if challenge.modulus else profile.rate(challenge.memory_kib)
    return expected_evaluations(challenge) / rate if rate > 0 else math.inf
