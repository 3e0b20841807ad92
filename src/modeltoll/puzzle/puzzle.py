"""The protocol of puzzles, and the control of their solvers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from modeltoll.errors import SolveStopped

if TYPE_CHECKING:
    import random

    from modeltoll.records import MachineProfile, Progress, Work
    from modeltoll.toll_records import Challenge, Solution

__all__ = [
    "Disclose",
    "Puzzle",
    "SolveControl",
    "expected_evaluations",
    "expected_seconds",
    "published_wait",
]

Disclose = Literal["exact", "coarse", "blind"]

_LEAST_WAIT, _LARGEST_WAIT = 2.0**-20, 2.0**60  # seconds: of coarse tolls


def published_wait(seconds: float, disclose: Disclose, blind_seconds: float = 0.0) -> float:
    """The largest wait that a toll publishes, in reference seconds: all that may show in it of its work ``seconds``.

    Twice the work, for the largest wait for a hidden counter is twice its mean. ``exact``: of this work. ``coarse``:
    rounded up to a power of two of seconds. ``blind``: of ``blind_seconds``, the same for all. The type of a puzzle, its
    memory, its parts and their bounds are chosen by this number alone.
    """
    if disclose == "blind":
        return 2 * blind_seconds
    if disclose == "exact":
        return 2 * seconds
    mantissa, exponent = math.frexp(min(max(2 * seconds, _LEAST_WAIT), _LARGEST_WAIT))  # mantissa in [0.5, 1)
    return math.ldexp(1.0, exponent - (mantissa == 0.5))


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
        """The same puzzle for a client with ``memory_kib`` KiB; itself if it does not use memory.

        For callers under suspicion the limit is not below 8 MiB.
        """

    def making_seconds(self, work: Work) -> float:
        """The most reference seconds that ``make`` takes for this work.

        A gateway calls ``make`` in its event loop where they are few, else in another thread.
        """

    def make(self, work: Work, rng: random.Random) -> tuple[Challenge, Solution | None]:
        """A fresh puzzle whose expected work is ``work.seconds``, with its solution if the server knows it.

        Of the work no more shows in the challenge than ``published_wait`` says, where the puzzle supports ``disclose``.
        The solution's secret is 16 bytes per part, which only the evaluation of F gives; a puzzle without a secret
        cannot seal an answer, and among these a token is made for hashcash alone.

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
