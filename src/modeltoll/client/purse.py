"""Decide and pay. No HTTP library is known here.

``toll_flow`` holds the whole protocol as one generator; a driver for an HTTP library sends what it yields and gives
back what came. Sync and async drivers differ only in how they send and in where they do the work.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import TypeAlias

from modeltoll import wire
from modeltoll.errors import SealBroken, TollMalformed, TollTooDear
from modeltoll.pricing.reference import DEFAULT_PROFILE
from modeltoll.puzzle import seal
from modeltoll.puzzle.puzzle import Watch, expected_seconds
from modeltoll.puzzle.solve import solve
from modeltoll.records import Answer, MachineProfile, Solution, Toll

__all__ = ["Errand", "Flow", "Labour", "Payment", "Purse", "Reply", "toll_flow"]

_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Payment:
    """What one toll took: ``expected`` reference seconds as published, ``seconds`` of waiting, ``rows`` bought."""

    expected: float
    seconds: float
    rows: int
    puzzle: str
    mode: str


class Purse:
    """What a caller is ready to spend, and what was spent. One purse may serve many threads and many clients.

    Args:
        max_seconds: the dearest toll that is paid, in expected seconds on one core of the reference machine; dearer
            ones raise ``TollTooDear`` before any work is done.
        max_seconds_per_hour: the same for all tolls of the last hour together; None for no limit.
        deadline_seconds: stop solving after this many seconds of waiting; None for no limit.
        cores: how many cores a solver may use.
        memory_kib: the largest argon2id memory that this client has, told to the server.
        progress: receives (evaluations done, most that can be needed) while solving.
        profile: the machine whose seconds the limits mean.
    """

    def __init__(  # noqa: PLR0913  each is an independent limit with a default
        self,
        max_seconds: float = 30.0,
        *,
        max_seconds_per_hour: float | None = None,
        deadline_seconds: float | None = None,
        cores: int = 1,
        memory_kib: int = 64 * 1024,
        progress: Callable[[int, int], None] | None = None,
        profile: MachineProfile = DEFAULT_PROFILE,
    ) -> None:
        self.max_seconds = max_seconds
        self.max_seconds_per_hour = max_seconds_per_hour
        self.deadline_seconds = deadline_seconds
        self.accept = wire.Accept(memory_kib=memory_kib)
        self._watch = Watch(progress=progress, cores=cores)
        self._profile = profile
        self._lock = threading.Lock()
        self._recent: deque[tuple[float, float]] = deque()
        self._payments: list[Payment] = []

    @property
    def payments(self) -> tuple[Payment, ...]:
        """What was paid so far, oldest first."""
        with self._lock:
            return tuple(self._payments)

    def decide(self, toll: Toll) -> float:
        """The toll's expected reference seconds, taken from the hour's allowance.

        Raises:
            TollTooDear: above a limit of this purse; nothing is taken.
        """
        expected = expected_seconds(toll.challenge, self._profile)
        if expected > self.max_seconds:
            raise TollTooDear(
                f"the toll takes about {expected:.3g} s of work, the limit is {self.max_seconds:.3g} s (max_seconds)",
                seconds=expected,
                limit=self.max_seconds,
            )
        with self._lock:
            now = self._watch.clock()
            while self._recent and self._recent[0][0] < now - _HOUR:
                self._recent.popleft()
            left = (self.max_seconds_per_hour or float("inf")) - sum(spent for _, spent in self._recent)
            if self.max_seconds_per_hour is not None and expected > left:
                raise TollTooDear(
                    f"the toll takes about {expected:.3g} s of work, {max(left, 0.0):.3g} s are left of this hour's "
                    f"{self.max_seconds_per_hour:.3g} s (max_seconds_per_hour)",
                    seconds=expected,
                    limit=left,
                )
            self._recent.append((now, expected))
        return expected

    def work(self, toll: Toll, expected: float, cancelled: Callable[[], bool] | None = None) -> Solution:
        """Solve a toll that was decided on.

        Raises:
            SolveStopped: cancelled, or past this purse's deadline. TollMalformed: it has no solution.
        """
        begin = time.perf_counter()
        deadline = None if self.deadline_seconds is None else self._watch.clock() + self.deadline_seconds
        solution = solve(toll.challenge, replace(self._watch, deadline=deadline, cancelled=cancelled))
        payment = Payment(expected, time.perf_counter() - begin, toll.rows, toll.challenge.puzzle, toll.mode)
        with self._lock:
            self._payments.append(payment)
        return solution


@dataclass(frozen=True, slots=True)
class Errand:
    """A request that the driver must send to the same server: the original one, or a redemption.

    ``path`` and ``body`` are None for the original request, which the driver sends as it is with ``headers`` added.
    """

    headers: tuple[tuple[str, str], ...]
    path: str | None = None
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class Labour:
    """Work that the driver must do, beside its event loop if it has one: ``run(cancelled)``."""

    run: Callable[[Callable[[], bool] | None], Solution]


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of an errand. ``body`` need be read only where the status is 402 or the errand was a redemption."""

    status: int
    content_type: str
    body: bytes = b""


Flow: TypeAlias = Generator["Errand | Labour", "Reply | Solution", "Answer | None"]


def toll_flow(purse: Purse) -> Flow:
    """Walk one request through a toll.

    Yields errands and labour; the driver sends back a ``Reply`` or a ``Solution``. Returns the opened answer, or None
    where the reply to the original request is no toll and stands as it came.

    Raises:
        TollMalformed, TollTooDear, SolveStopped, SealBroken: the toll was not paid.
    """
    reply = yield Errand(((wire.ACCEPT_HEADER, wire.format_accept(purse.accept)),))
    if not isinstance(reply, Reply) or reply.status != wire.STATUS:
        return None
    toll = wire.find_toll(reply.body)
    if toll is None:
        return None
    expected = purse.decide(toll)
    solution = yield Labour(lambda cancelled: purse.work(toll, expected, cancelled))
    if not isinstance(solution, Solution):
        raise TollMalformed("the driver did not do the work")
    if toll.mode == wire.SEALED:
        return seal.open_(toll.cargo, solution, wire.canonical_challenge(toll.challenge, toll.mode))
    body = wire.encode_redemption(toll.cargo, solution.counters)
    redeemed = yield Errand((("Content-Type", "application/json"),), wire.REDEEM_PATH, body)
    if not isinstance(redeemed, Reply) or redeemed.status == wire.STATUS:
        raise SealBroken("the server asked for a toll on a toll")
    return Answer(redeemed.status, redeemed.content_type, redeemed.body)
