"""The solver: tries counters from 0, part by part, on several cores, with progress reports and cancellation.

Argon2id and the native SHA-256 kernels run in threads, because they release the interpreter lock. Pure Python does not,
so long work runs in helper processes (``searchers``). Short work runs in the calling thread.
"""

from __future__ import annotations

import threading
import time
from _thread import start_new_thread
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from queue import Empty, SimpleQueue
from typing import TypeAlias

from modeltoll.errors import SolveStopped, TollMalformed
from modeltoll.puzzle.functions import (
    ARGON2ID,
    HASHCASHES,
    LANES,
    PASSES,
    PUZZLES,
    TIMELOCK,
    check_of,
    counter_span,
    secret_of,
)
from modeltoll.puzzle.native_kernels import Kernel
from modeltoll.puzzle.puzzle import SolveControl
from modeltoll.puzzle.searchers import Match, Search, SearcherPool, start_searchers
from modeltoll.puzzle.squaring import MODULUS_BYTES, Squarer, square_repeatedly, squarers
from modeltoll.toll_records import Challenge, Part, Solution

__all__ = ["solve", "solve_timelock"]

_POLL_SECONDS = 0.01
_GRACE_SECONDS = 0.02  # wait for threads after a stop; an evaluation in progress then ends later

_Report: TypeAlias = Callable[[int], None]
_Outcome: TypeAlias = Match | Exception | None  # of one thread's search


def solve(challenge: Challenge, control: SolveControl, kernel: Kernel | None = None) -> Solution:
    """Solve a challenge. The secret is the concatenation of the secret halves of F(n); it is empty for hashcash.

    ``control`` is polled about every 20 ms and takes effect within 50 ms; an evaluation in progress may end later.
    ``kernel`` defaults to the fastest one for SHA-256; with ``PYTHON`` argon2id is argon2-cffi's.

    Raises:
        TollMalformed: an unknown puzzle or parameters, or no counter below the published bound solves it.
        SolveStopped: cancelled, past the deadline, or memory, a thread or a helper process is not available.
    """
    _refuse_unknown(challenge)
    if challenge.puzzle == TIMELOCK:
        return solve_timelock(challenge, control, squarers()[0])
    bounded = challenge.puzzle not in HASHCASHES
    most = sum(part.bound for part in challenge.parts) if bounded else 0
    matches: list[Match] = []
    done = 0
    with ExitStack() as stack:
        pool = start_searchers(challenge, control.cores, stack, kernel)
        search = _ParallelSearch(pool, stack).run if pool.threaded else _solve_alone(pool)
        for part in challenge.parts:

            def report(issued: int, before: int = done) -> None:
                control.check(before + issued, most)

            match = search(part, _ChunkQueue(counter_span(challenge, part), pool.chunk), report)
            if match is None:
                raise TollMalformed("no counter below the published bound solves the puzzle")
            matches.append(match)
            done += match.counter + 1
    secret = b"".join(secret_of(match.value) for match in matches) if bounded else b""
    return Solution(tuple(match.counter for match in matches), secret)


def solve_timelock(challenge: Challenge, control: SolveControl, squarer: Squarer) -> Solution:
    """Solve a time lock in the calling thread. The counter of a part is the index of its last squaring, from 0.

    Raises:
        TollMalformed: the result of the squarings does not match the published check.
        SolveStopped: cancelled, or past the deadline.
    """
    most, done, secret = sum(part.bound for part in challenge.parts), 0, b""
    for part in challenge.parts:

        def report(squared: int, before: int = done) -> None:
            control.check(before + squared, most)

        value = square_repeatedly(challenge, part, report, squarer)
        if check_of(value) != part.check:
            raise TollMalformed("the squarings do not solve the puzzle")
        secret += secret_of(value)
        done += part.bound
    return Solution(tuple(part.bound - 1 for part in challenge.parts), secret)


def _refuse_unknown(challenge: Challenge) -> None:
    if challenge.puzzle not in PUZZLES or not challenge.parts:
        raise TollMalformed("not a puzzle that this client can solve")
    costs = (challenge.passes, challenge.lanes) if challenge.memory_kib else (0, 0)
    wanted = (PASSES, LANES) if challenge.puzzle == ARGON2ID else (0, 0)
    size = MODULUS_BYTES if challenge.puzzle == TIMELOCK else 0
    if costs != wanted or len(challenge.modulus) != size:
        raise TollMalformed("the puzzle's parameters are not of this version")


class _ChunkQueue:
    """The counters of one part, as chunks (start, stop) in order. Thread-safe."""

    def __init__(self, end: int, size: int) -> None:
        self.issued = 0
        self._end = end
        self._size = size
        self._lock = threading.Lock()

    def close(self) -> None:
        """Hand out no more chunks."""
        self._end = 0

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return self

    def __next__(self) -> tuple[int, int]:
        with self._lock:
            start = self.issued
            if start >= self._end:
                raise StopIteration
            self.issued = min(start + self._size, self._end)
            return start, self.issued


def _solve_alone(pool: SearcherPool) -> Callable[[Part, _ChunkQueue, _Report], Match | None]:
    """Search in the calling thread."""
    (search,) = pool.searches

    def run(part: Part, chunks: _ChunkQueue, report: _Report) -> Match | None:
        report(0)
        for start, stop in chunks:
            match = search(part, start, stop)
            if match is not None:
                return match
            report(stop)
        return None

    return run


class _ParallelSearch:
    """Search in one thread per searcher, while the calling thread polls the control.

    An interrupt may occur anywhere in the calling thread. Inside ``threading`` or ``concurrent.futures`` it may leave
    a lock acquired for ever, which keeps Python from exiting. Therefore the calling thread takes no lock: it starts
    low-level threads, which end when there are no more chunks and report their outcome through a queue written in C.
    """

    def __init__(self, pool: SearcherPool, stack: ExitStack) -> None:
        self._pool = pool
        self._chunks = _ChunkQueue(0, 1)
        self._outcomes: SimpleQueue[_Outcome] = SimpleQueue()
        self._started = 0
        stack.callback(self._leave)

    def run(self, part: Part, chunks: _ChunkQueue, report: _Report) -> Match | None:
        """The match of a part, or None if there is none."""
        report(0)
        self._chunks = chunks
        for search in self._pool.searches:
            _start_thread(search, part, chunks, self._outcomes)
            self._started += 1
        matches: list[Match] = []
        while self._started:
            try:
                outcome = self._outcomes.get(timeout=_POLL_SECONDS)
            except Empty:
                report(chunks.issued)
                continue
            self._started -= 1
            if isinstance(outcome, Exception):
                raise outcome
            if outcome is not None:
                matches.append(outcome)
        return min(matches, default=None)

    def _leave(self) -> None:
        self._chunks.close()
        last = time.monotonic() + _GRACE_SECONDS
        with suppress(Empty):
            while self._started:
                self._outcomes.get(timeout=max(0.0, last - time.monotonic()))
                self._started -= 1


def _start_thread(search: Search, part: Part, chunks: _ChunkQueue, outcomes: SimpleQueue[_Outcome]) -> None:
    try:
        start_new_thread(_run_thread, (search, part, chunks, outcomes))
    except RuntimeError as error:
        raise SolveStopped("the machine cannot start another thread") from error


def _run_thread(search: Search, part: Part, chunks: _ChunkQueue, outcomes: SimpleQueue[_Outcome]) -> None:
    outcome: _Outcome = None
    try:
        for start, last in chunks:
            outcome = search(part, start, last)
            if outcome is not None:
                break
    except Exception as error:  # noqa: BLE001  raised again in the calling thread
        outcome = error
    chunks.close()  # found, failed or no chunk left: the other threads end after their current chunk
    outcomes.put(outcome)
