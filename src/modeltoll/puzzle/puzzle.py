"""The protocol of puzzles, and the control of their solvers."""

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
    """Progress reports, cancellation, deadline and cores of a solver.

    ``progress``: called with the evaluations done and the largest number that can be needed, 0 if unbounded.
    ``deadline``: in seconds of ``clock``. ``cancelled``: polled; True stops the solver. ``cores``: the most to use.
    """

    progress: Progress | None = None
    deadline: float | None = None
    cancelled: Callable[[], bool] | None = None
    cores: int = 1
    clock: Callable[[], float] = time.monotonic

    def check(self, done: int, most: int) -> None:
        """Report progress, and stop if required.

        Raises:
            SolveStopped: cancelled, or past the deadline.
        """
        if self.progress is not None:
            self.progress(done, most)
        if self.cancelled is not None and self.cancelled():
            raise SolveStopped("the work was cancelled")
        if self.deadline is not None and self.clock() >= self.deadline:
            raise SolveStopped("the work was not done before the deadline")


class Puzzle(Protocol):
    """Makes, solves and checks puzzles of one type; keeps no state about the puzzles it made."""

    @property
    def name(self) -> str:
        """The puzzle's name on the wire."""

    def within(self, memory_kib: int) -> Puzzle:
        """The same puzzle for a client with ``memory_kib`` KiB; itself if it does not use memory."""

    def make(self, work: Work, rng: random.Random) -> tuple[Challenge, Solution | None]:
        """A fresh puzzle whose expected work is ``work.seconds``, with its solution if the server knows it.

        ``rng`` is ``random.SystemRandom()`` outside of tests: a predictable generator would reveal the solution.

        Raises:
            ValueError: the work is negative, not finite, or too large for a puzzle.
        """

    def solve(self, challenge: Challenge, control: SolveControl) -> Solution:
        """Find the solution.

        Raises:
            SolveStopped: cancelled, or past the deadline.
            TollMalformed: no counter below the published bound solves it.
        """

    def check(self, challenge: Challenge, solution: Solution) -> bool:
        """Whether the solution solves the challenge, verified with one evaluation per part."""


def expected_evaluations(challenge: Challenge) -> float:
    """The mean number of evaluations according to the published bounds.

    Per part (bound + 1) / 2 for a hidden counter, and the bound for hashcash and for a time lock.
    """
    if challenge.modulus:
        return sum(part.bound for part in challenge.parts)
    return sum((part.bound + 1) / 2 if part.check else part.bound for part in challenge.parts)


def expected_seconds(challenge: Challenge, profile: MachineProfile) -> float:
    """The mean wait in seconds on one core of the profile's machine, according to the published bounds.

    Infinite for a time lock if the profile has no rate of squarings.
    """
    rate = profile.squarings if challenge.modulus else profile.rate(challenge.memory_kib)
    return expected_evaluations(challenge) / rate if rate > 0 else math.inf
