"""Decide and pay. No HTTP library is known here; what is asked of one stands in ``flow.py``."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from modeltoll import wire
from modeltoll.errors import TollTooDear
from modeltoll.puzzle.machine_profile import DEFAULT_PROFILE
from modeltoll.puzzle.puzzle import SolveControl, expected_seconds
from modeltoll.puzzle.registry import puzzle_solver
from modeltoll.puzzle.solver import solve
from modeltoll.records import MachineProfile, Solution, Toll

if TYPE_CHECKING:
    from modeltoll.records import Progress

__all__ = ["Cancelled", "Payment", "Purse"]

Cancelled: TypeAlias = Callable[[], bool] | None

_HOUR = 3600.0
_REMEMBERED = 10_000  # payments


@dataclass(frozen=True, slots=True)
class Payment:
    """What one toll took: ``expected`` reference seconds as published, ``seconds`` of waiting, ``rows`` bought."""

    expected: float
    seconds: float
    rows: int
    puzzle: str
    mode: str


@dataclass(slots=True, eq=False)
class _Share:
    """A part of an allowance: so many seconds, taken at a time of the purse's clock."""

    at: float
    seconds: float


class _SharedLimit:
    """At most ``limit`` seconds within any hour. Each call is one step, however many threads call."""

    def __init__(self, limit: float, clock: Callable[[], float]) -> None:
        self._limit = limit
        self._clock = clock
        self._lock = threading.Lock()
        self._shares: deque[_Share] = deque()
        self._taken = 0.0

    def take(self, seconds: float) -> _Share:
        """Take a share, or raise ``TollTooDear`` and take nothing."""
        if self._limit == float("inf"):
            return _Share(0.0, seconds)
        with self._lock:
            self._forget()
            left = max(self._limit - self._taken, 0.0)
            if seconds > left:
                raise TollTooDear(
                    f"the toll takes about {seconds:.3g} s of work, {left:.3g} s are left of this hour's "
                    f"{self._limit:.3g} s (max_seconds_per_hour)",
                    seconds=seconds,
                    limit=left,
                )
            share = _Share(self._clock(), seconds)
            self._shares.append(share)
            self._taken += seconds
        return share

    def reduce(self, share: _Share, seconds: float) -> None:
        """Give back what a share holds above ``seconds``."""
        with self._lock:
            self._forget()
            kept = min(share.seconds, seconds)
            if self._shares and share.at >= self._shares[0].at:
                self._taken -= share.seconds - kept
            share.seconds = kept

    def _forget(self) -> None:
        horizon = self._clock() - _HOUR
        while self._shares and self._shares[0].at <= horizon:
            self._taken -= self._shares.popleft().seconds
        if not self._shares:
            self._taken = 0.0  # rounding does not add up


class Purse:
    """What a caller is ready to spend, and what was spent. One purse may serve many threads and many clients.

    ``wishes`` is what a server is told in ``Toll-Accept``.

    A toll counts against the hour with its expected seconds from the moment its work begins. Where the work is given
    up (cancelled, past its deadline, no solution), it counts with the core seconds that were worked, at most those.

    Args:
        max_seconds: the dearest toll that is paid, in expected seconds on one core of the reference machine; dearer
            ones raise ``TollTooDear`` before any work is done.
        max_seconds_per_hour: the same for all tolls of the last hour together; None for no limit.
        deadline_seconds: stop solving after this many seconds of work on one toll; None for no limit.
        cores: how many cores a solver may use.
        memory_kib: the largest argon2id memory that is given to a puzzle; the server is told, in whole MiB.
        progress: receives (evaluations done, most that can be needed) while solving, in the solver's thread.
        allow: asked, in the solver's thread, whether to pay a toll above ``max_seconds``; receives the toll and its
            expected seconds. Without it such tolls are refused before a thread is troubled.
        paid: receives each payment, in the solver's thread.
        profile: the machine whose seconds the limits mean.
        clock: seconds that never go back.
        puzzles: names of puzzles of other packages that are solved too, by entry points ``modeltoll.puzzles``.

    Raises:
        SettingsError: there is no such puzzle that can be used.
        ValueError: a limit is negative or not a number, or there is no core or no memory to work with.
    """

    def __init__(  # noqa: PLR0913  each is an independent limit with a default
        self,
        max_seconds: float = 30.0,
        *,
        max_seconds_per_hour: float | None = None,
        deadline_seconds: float | None = None,
        cores: int = 1,
        memory_kib: int = 64 * 1024,
        progress: Progress | None = None,
        allow: Callable[[Toll, float], bool] | None = None,
        paid: Callable[[Payment], None] | None = None,
        profile: MachineProfile = DEFAULT_PROFILE,
        clock: Callable[[], float] = time.monotonic,
        puzzles: Sequence[str] = (),
    ) -> None:
        limits = {"max_seconds_per_hour": max_seconds_per_hour, "deadline_seconds": deadline_seconds}
        for name, limit in ({"max_seconds": max_seconds} | limits).items():
            if limit is not None and not limit >= 0:
                raise ValueError(f"{name} is a number of seconds from 0 up, not {limit}")
        if cores < 1 or memory_kib < 1:
            raise ValueError("a purse needs at least one core and 1 KiB of memory")
        self.max_seconds = max_seconds
        self.deadline_seconds = deadline_seconds
        self.memory_kib = memory_kib
        self._solvers = {name: puzzle_solver(name) for name in puzzles}
        accept = wire.Accept(memory_kib=memory_kib)
        self.wishes = wire.format_accept(replace(accept, puzzles=(*accept.puzzles, *puzzles)))
        self._watch = SolveControl(progress=progress, cores=cores, clock=clock)
        self._allow = allow
        self._paid = paid
        self._profile = profile
        self._hour = _SharedLimit(float("inf") if max_seconds_per_hour is None else max_seconds_per_hour, clock)
        self._payments: deque[Payment] = deque(maxlen=_REMEMBERED)

    @property
    def cores(self) -> int:
        """How many cores a solver may use."""
        return self._watch.cores

    @property
    def puzzles(self) -> Collection[str]:
        """The puzzles of other packages that are solved too."""
        return self._solvers.keys()

    @property
    def payments(self) -> tuple[Payment, ...]:
        """The tolls paid so far, oldest first; of a very long row the last 10,000."""
        return tuple(self._payments.copy())

    def expected(self, toll: Toll) -> float:
        """The toll's expected seconds on one core of the purse's machine."""
        return expected_seconds(toll.challenge, self._profile)

    def decide(self, toll: Toll) -> float:
        """The toll's expected reference seconds, if this purse pays for such tolls at all; ``allow`` is not asked yet.

        Raises:
            TollTooDear: it takes more seconds or more memory than a toll may.
        """
        expected = self.expected(toll)
        fault = None
        if expected > self.max_seconds and self._allow is None:
            fault = f"takes about {expected:.3g} s of work, the limit is {self.max_seconds:.3g} s (max_seconds)"
        elif toll.challenge.memory_kib > self.memory_kib:
            asked = toll.challenge.memory_kib
            fault = f"takes {asked} KiB of memory, the limit is {self.memory_kib} KiB (memory_kib)"
        if fault is not None:
            raise TollTooDear(f"the toll {fault}", seconds=expected, limit=self.max_seconds)
        return expected

    def pay(self, toll: Toll, cancelled: Cancelled = None) -> Solution:
        """Decide, take the toll's seconds from the hour's allowance, and solve it.

        Raises:
            TollTooDear: above a limit of this purse; nothing was taken, no work was done.
            SolveStopped: cancelled, or past this purse's deadline. TollMalformed: it has no solution.
        """
        expected = self.decide(toll)
        if expected > self.max_seconds and self._allow is not None and not self._allow(toll, expected):
            raise TollTooDear(
                f"the toll takes about {expected:.3g} s of work, which was not allowed",
                seconds=expected,
                limit=self.max_seconds,
            )
        share = self._hour.take(expected)
        begin = self._watch.clock()
        deadline = None if self.deadline_seconds is None else begin + self.deadline_seconds
        solution = None
        try:
            solver = self._solvers.get(toll.challenge.puzzle, solve)
            solution = solver(toll.challenge, replace(self._watch, deadline=deadline, cancelled=cancelled))
        finally:
            seconds = self._watch.clock() - begin
            if solution is None:
                self._hour.reduce(share, seconds * self.cores)
        payment = Payment(expected, seconds, toll.rows, toll.challenge.puzzle, toll.mode)
        self._payments.append(payment)
        if self._paid is not None:
            self._paid(payment)
        return solution
