"""Client-side budget: refuses tolls above a limit, solves the others, and records what they took."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from modeltoll import wire
from modeltoll.client.forks import ForkSafeLock
from modeltoll.client.machine_memory import available_kib, default_memory_kib, usable_cores
from modeltoll.client.receipts import Receipts
from modeltoll.errors import TollTooDear
from modeltoll.puzzle.machine_profile import DEFAULT_PROFILE
from modeltoll.puzzle.puzzle import SolveControl, expected_seconds
from modeltoll.puzzle.registry import puzzle_solver
from modeltoll.puzzle.solver import solve
from modeltoll.records import MachineProfile
from modeltoll.toll_records import Solution, Toll

if TYPE_CHECKING:
    from modeltoll.records import Progress

__all__ = ["Cancelled", "Payment", "Purse"]

Cancelled: TypeAlias = Callable[[], bool] | None

_HOUR = 3600.0
_MAX_PAYMENTS = 10_000  # payments


@dataclass(frozen=True, slots=True)
class Payment:
    """One paid toll: its ``expected`` work in reference seconds, the ``seconds`` that solving took, and its ``rows``.

    ``admission``: it was paid before the model was asked.
    """

    expected: float
    seconds: float
    rows: int
    puzzle: str
    mode: str
    admission: bool = False


@dataclass(slots=True, eq=False)
class _Reservation:
    """Seconds of the hourly limit that one toll uses, since the time ``at`` of the purse's clock."""

    at: float
    seconds: float


class _SharedLimit:
    """At most ``limit`` seconds of work within any hour. Thread-safe."""

    def __init__(self, limit: float, clock: Callable[[], float]) -> None:
        self._limit = limit
        self._clock = clock
        self._lock = ForkSafeLock()
        self._reservations: deque[_Reservation] = deque()
        self._reserved = 0.0

    def reserve(self, seconds: float) -> _Reservation:
        """Reserve seconds, or raise ``TollTooDear`` and change nothing."""
        if self._limit == float("inf"):
            return _Reservation(0.0, seconds)
        with self._lock:
            self._expire()
            left = max(self._limit - self._reserved, 0.0)
            if seconds > left:
                raise TollTooDear(
                    f"the toll takes about {seconds:.3g} s of work, {left:.3g} s are left of this hour's "
                    f"{self._limit:.3g} s (max_seconds_per_hour)",
                    seconds=seconds,
                    limit=left,
                )
            reservation = _Reservation(self._clock(), seconds)
            self._reservations.append(reservation)
            self._reserved += seconds
        return reservation

    def reduce(self, reservation: _Reservation, seconds: float) -> None:
        """Lower a reservation to ``seconds``, if it is larger."""
        with self._lock:
            self._expire()
            kept = min(reservation.seconds, seconds)
            if self._reservations and reservation.at >= self._reservations[0].at:
                self._reserved -= reservation.seconds - kept
            reservation.seconds = kept

    def _expire(self) -> None:
        horizon = self._clock() - _HOUR
        while self._reservations and self._reservations[0].at <= horizon:
            self._reserved -= self._reservations.popleft().seconds
        if not self._reservations:
            self._reserved = 0.0  # removes rounding errors


class Purse:
    """Client-side budget: refuses tolls above a limit. One purse may serve many threads and clients.

    A forked process has a purse of its own: the hour's limit holds for each process, and receipts stay with the parent.

    ``accept_header`` is the value of ``Toll-Accept``, which states the puzzles and the memory that the client offers.
    ``receipts`` are those of opened seals, which the drivers return to the gateways. ``redeem_urls`` are those that were
    found to lead to a gateway.

    A toll counts toward the hourly limit with its expected seconds from the moment its work starts. If the work ends
    without a solution (cancelled, deadline, error), it counts with the core seconds used, up to the expected seconds.

    Args:
        max_seconds: the largest toll that is paid, in expected seconds on one core of ``profile``; larger ones raise
            ``TollTooDear`` before any work is done.
        max_seconds_per_hour: the same for all tolls of the last hour together; None for no limit.
        deadline_seconds: stop solving one toll after this many seconds; None for no limit.
        cores: number of cores that one solver may use.
        memory_kib: the most argon2id memory that a puzzle may take, in KiB; stated to the server in whole MiB. None for
            256 MiB if one solver per core that this process may use takes at most half of this machine's memory with that,
            else 64 MiB or less.
        progress: called with (evaluations done, largest number that can be needed) in the solver's thread.
        allow: called with a toll above ``max_seconds`` and its expected seconds, in the solver's thread; returns
            whether to pay it. Without it such tolls are refused.
        paid: called with each payment, in the solver's thread.
        profile: the machine in whose seconds the limits are stated; by default the reference machine.
        clock: returns monotonic seconds.
        puzzles: names of puzzles of other packages (entry points ``modeltoll.puzzles``) that are solved too.
        replay_pace: seconds between the events of an opened answer that is an event stream; 0 for all at once.

    Raises:
        SettingsError: there is no such puzzle that can be used.
        ValueError: a limit is negative or not a number, ``replay_pace`` is infinite, or ``cores`` or ``memory_kib`` is
            below 1.
    """

    def __init__(  # noqa: PLR0913  each is an independent limit with a default
        self,
        max_seconds: float = 30.0,
        *,
        max_seconds_per_hour: float | None = None,
        deadline_seconds: float | None = None,
        cores: int = 1,
        memory_kib: int | None = None,
        progress: Progress | None = None,
        allow: Callable[[Toll, float], bool] | None = None,
        paid: Callable[[Payment], None] | None = None,
        profile: MachineProfile = DEFAULT_PROFILE,
        clock: Callable[[], float] = time.monotonic,
        puzzles: Sequence[str] = (),
        replay_pace: float = 0.0,
    ) -> None:
        limits = {"max_seconds_per_hour": max_seconds_per_hour, "deadline_seconds": deadline_seconds}
        for name, limit in ({"max_seconds": max_seconds, "replay_pace": replay_pace} | limits).items():
            if limit is not None and not limit >= 0:
                raise ValueError(f"{name} must be a number of seconds, 0 or more, not {limit}")
        if memory_kib is None:
            memory_kib = default_memory_kib(available_kib(), usable_cores())
        if cores < 1 or memory_kib < 1:
            raise ValueError("a purse needs at least 1 core and 1 KiB of memory")
        if replay_pace == float("inf"):
            raise ValueError("replay_pace must be finite")
        self.max_seconds = max_seconds
        self.deadline_seconds = deadline_seconds
        self.memory_kib = memory_kib
        self.replay_pace = replay_pace
        self._solvers = {name: puzzle_solver(name) for name in puzzles}
        accept = wire.Accept(memory_kib=memory_kib, receipts=True)
        self.accept_header = wire.format_accept(replace(accept, puzzles=(*accept.puzzles, *puzzles)))
        self._control = SolveControl(progress=progress, cores=cores, clock=clock)
        self._allow = allow
        self._paid = paid
        self._profile = profile
        self._hour = _SharedLimit(float("inf") if max_seconds_per_hour is None else max_seconds_per_hour, clock)
        self.receipts = Receipts(clock)
        self.redeem_urls: set[str] = set()
        self._payments: deque[Payment] = deque(maxlen=_MAX_PAYMENTS)

    @property
    def cores(self) -> int:
        """Number of cores that one solver may use."""
        return self._control.cores

    @property
    def puzzles(self) -> Collection[str]:
        """The puzzles of other packages that are solved too."""
        return self._solvers.keys()

    @property
    def payments(self) -> tuple[Payment, ...]:
        """The last 10,000 tolls paid, oldest first."""
        return tuple(self._payments.copy())

    def expected(self, toll: Toll) -> float:
        """The toll's expected seconds on one core of the purse's ``profile``."""
        return expected_seconds(toll.challenge, self._profile)

    def decide(self, toll: Toll) -> float:
        """The toll's expected seconds, if it is within the limits of one toll; ``allow`` is not called yet.

        Raises:
            TollTooDear: the toll takes more seconds or more memory than one toll may.
        """
        expected = self.expected(toll)
        reason = None
        if expected > self.max_seconds and self._allow is None:
            reason = f"takes about {expected:.3g} s of work, the limit is {self.max_seconds:.3g} s (max_seconds)"
        elif toll.challenge.memory_kib > self.memory_kib:
            required = toll.challenge.memory_kib
            reason = f"takes {required} KiB of memory, the limit is {self.memory_kib} KiB (memory_kib)"
        if reason is not None:
            raise TollTooDear(f"the toll {reason}", seconds=expected, limit=self.max_seconds)
        return expected

    def pay(self, toll: Toll, cancelled: Cancelled = None) -> Solution:
        """Check the limits, count the toll toward the hour, and solve it.

        Raises:
            TollTooDear: above a limit of this purse; no work was done.
            SolveStopped: cancelled, or past the deadline. TollMalformed: the toll has no solution.
        """
        expected = self.decide(toll)
        if expected > self.max_seconds and self._allow is not None and not self._allow(toll, expected):
            raise TollTooDear(
                f"the toll takes about {expected:.3g} s of work, and the callback 'allow' refused it",
                seconds=expected,
                limit=self.max_seconds,
            )
        reservation = self._hour.reserve(expected)
        begin = self._control.clock()
        deadline = None if self.deadline_seconds is None else begin + self.deadline_seconds
        solution = None
        try:
            solver = self._solvers.get(toll.challenge.puzzle, solve)
            solution = solver(toll.challenge, replace(self._control, deadline=deadline, cancelled=cancelled))
        finally:
            seconds = self._control.clock() - begin
            if solution is None:
                self._hour.reduce(reservation, seconds * self.cores)
        payment = Payment(expected, seconds, toll.rows, toll.challenge.puzzle, toll.mode, toll.admission)
        self._payments.append(payment)
        if self._paid is not None:
            self._paid(payment)
        return solution
