"""The solver: counts up from 0, part by part, watched, on as many cores as it may.

Argon2id and the compiled SHA-256 kernels run in threads, since they let go of the interpreter lock. Plain Python does
not, so where the work is long it runs in helper processes (``crew.py``). Short work stays in the calling thread.
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
from modeltoll.records import Challenge, Part, Solution

__all__ = ["solve", "solve_timelock"]

_POLL_SECONDS = 0.01
_GRACE_SECONDS = 0.02  # for threads to end after a stop; what is still evaluating then ends by itself

_Report: TypeAlias = Callable[[int], None]
_Outcome: TypeAlias = Match | Exception | None  # of one thread's search


def solve(challenge: Challenge, watch: SolveControl, kernel: Kernel | None = None) -> Solution:
    """Do the work of a challenge. The secret joins the parts' halves of F(n) in order; it is empty for hashcash.

    The watch is looked at every 20 ms or so, and heeded within 50 ms: an evaluation that takes longer is left to end
    by itself. ``kernel`` is the fastest for SHA-256 that there is, if not given.

    Raises:
        TollMalformed: a puzzle or parameters that are not known, or no counter below the published bound fits.
        SolveStopped: cancelled, past the deadline, or the machine gave no memory or no helper process.
    """
    _refuse_unknown(challenge)
    if challenge.puzzle == TIMELOCK:
        return solve_timelock(challenge, watch, squarers()[0])
    bounded = challenge.puzzle not in HASHCASHES
    most = sum(part.bound for part in challenge.parts) if bounded else 0
    hits: list[Match] = []
    done = 0
    with ExitStack() as stack:
        crew = start_searchers(challenge, watch.cores, stack, kernel)
        search = _ParallelSearch(crew, stack).run if crew.beside else _solve_alone(crew)
        for part in challenge.parts:

            def look(issued: int, before: int = done) -> None:
                watch.check(before + issued, most)

            hit = search(part, _ChunkQueue(counter_span(challenge, part), crew.chunk), look)
            if hit is None:
                raise TollMalformed("no counter below the published bound solves the puzzle")
            hits.append(hit)
            done += hit.counter + 1
    secret = b"".join(secret_of(hit.value) for hit in hits) if bounded else b""
    return Solution(tuple(hit.counter for hit in hits), secret)


def solve_timelock(challenge: Challenge, watch: SolveControl, squarer: Squarer) -> Solution:
    """Solve a time lock, in the calling thread. The counter of a part is that of its last squaring, from 0.

    Raises:
        TollMalformed: what comes of the squarings is not what was published. SolveStopped: as ``solve``.
    """
    most, done, secret = sum(part.bound for part in challenge.parts), 0, b""
    for part in challenge.parts:

        def look(squared: int, before: int = done) -> None:
            watch.check(before + squared, most)

        value = square_repeatedly(challenge, part, look, squarer)
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
    """The counters of one part, handed out in order, to several threads too."""

    def __init__(self, end: int, size: int) -> None:
        self.issued = 0
        self._end = end
        self._size = size
        self._lock = threading.Lock()

    def close(self) -> None:
        """Hand out no more of them."""
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


def _solve_alone(crew: SearcherPool) -> Callable[[Part, _ChunkQueue, _Report], Match | None]:
    """Search in the calling thread."""
    (search,) = crew.searches

    def run(part: Part, chunks: _ChunkQueue, look: _Report) -> Match | None:
        look(0)
        for start, stop in chunks:
            hit = search(part, start, stop)
            if hit is not None:
                return hit
            look(stop)
        return None

    return run


class _ParallelSearch:
    """Search in one thread per searcher, while the calling thread looks at the watch.

    An interrupt may strike the calling thread anywhere, also inside ``threading`` and ``concurrent.futures``, whose
    locks then stay closed for good and keep Python from ending. So it takes no lock here: threads are started bare,
    end when there are no more chunks, and tell how they ended through a queue of C.
    """

    def __init__(self, crew: SearcherPool, stack: ExitStack) -> None:
        self._crew = crew
        self._chunks = _ChunkQueue(0, 1)
        self._ends: SimpleQueue[_Outcome] = SimpleQueue()
        self._started = 0
        stack.callback(self._leave)

    def run(self, part: Part, chunks: _ChunkQueue, look: _Report) -> Match | None:
        """As ``_solve_alone`` does it."""
        look(0)
        self._chunks = chunks
        for search in self._crew.searches:
            _start_thread(search, part, chunks, self._ends)
            self._started += 1
        hits: list[Match] = []
        while self._started:
            try:
                end = self._ends.get(timeout=_POLL_SECONDS)
            except Empty:
                look(chunks.issued)
                continue
            self._started -= 1
            if isinstance(end, Exception):
                raise end
            if end is not None:
                hits.append(end)
        return min(hits, default=None)

    def _leave(self) -> None:
        self._chunks.close()
        last = time.monotonic() + _GRACE_SECONDS
        with suppress(Empty):
            while self._started:
                self._ends.get(timeout=max(0.0, last - time.monotonic()))
                self._started -= 1


def _start_thread(search: Search, part: Part, chunks: _ChunkQueue, ends: SimpleQueue[_Outcome]) -> None:
    try:
        start_new_thread(_run_thread, (search, part, chunks, ends))
    except RuntimeError as error:
        raise SolveStopped("the machine gives no further thread") from error


def _run_thread(search: Search, part: Part, chunks: _ChunkQueue, ends: SimpleQueue[_Outcome]) -> None:
    end: _Outcome = None
    try:
        for start, last in chunks:
            end = search(part, start, last)
            if end is not None:
                break
    except Exception as error:  # noqa: BLE001  it is raised where the ends are waited for
        end = error
    chunks.close()  # found, failed or no chunk left: the others end with the chunk that they hold
    ends.put(end)
