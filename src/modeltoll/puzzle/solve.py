"""The solver: counts up from 0, part by part, watched, on as many cores as it may.

Argon2id runs in threads, since argon2-cffi lets go of the interpreter lock. SHA-256 does not, so where the work is
long it runs in helper processes (``scan.py``). Short work, and all work on one core, stays in the calling thread.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor, wait
from contextlib import ExitStack
from types import TracebackType
from typing import NamedTuple, Self

from argon2.exceptions import HashingError

from modeltoll.errors import SolveStopped, TollMalformed
from modeltoll.puzzle import scan
from modeltoll.puzzle.evaluation import (
    ARGON2ID,
    HASHCASH,
    LANES,
    PASSES,
    PUZZLES,
    check_of,
    evaluate,
    largest_digest,
    secret_of,
    span,
)
from modeltoll.puzzle.puzzle import Watch, expected_evaluations
from modeltoll.records import Challenge, Part, Solution

__all__ = ["HELPED_EVALUATIONS", "solve"]

HELPED_EVALUATIONS = 500_000  # of SHA-256, about half a second: above it helper processes earn their start
_SHA256_CHUNK = 1 << 13  # some 5 to 10 ms between two looks at the watch
_ARGON2ID_CHUNK_KIB = 4096  # evaluations of a few milliseconds together
_POLL_SECONDS = 0.01


class _Hit(NamedTuple):
    counter: int
    value: bytes


_Search = Callable[[Part, int, int], _Hit | None]


def solve(challenge: Challenge, watch: Watch) -> Solution:
    """Do the work of a challenge. The secret joins the parts' halves of F(n) in order; it is empty for hashcash.

    The watch is looked at every 20 ms or so, and between two evaluations where one takes longer than that.

    Raises:
        TollMalformed: a puzzle or parameters that are not known, or no counter below the published bound fits.
        SolveStopped: cancelled, past the deadline, or the machine gave no memory or no helper process.
    """
    _refuse_unknown(challenge)
    bounded = challenge.puzzle != HASHCASH
    most = sum(part.bound for part in challenge.parts) if bounded else 0
    hits: list[_Hit] = []
    done = 0
    with ExitStack() as stack:
        searches = _searches(challenge, watch.cores, stack)
        pool = stack.enter_context(ThreadPoolExecutor(len(searches))) if len(searches) > 1 else None
        for part in challenge.parts:
            chunks = _Chunks(span(challenge, part), _chunk(challenge, alone=pool is None))

            def look(issued: int, before: int = done) -> None:
                watch.check(before + issued, most)

            hit = _alone(searches[0], part, chunks, look) if pool is None else _race(pool, searches, part, chunks, look)
            if hit is None:
                raise TollMalformed("no counter below the published bound solves the puzzle")
            hits.append(hit)
            done += hit.counter + 1
    secret = b"".join(secret_of(hit.value) for hit in hits) if bounded else b""
    return Solution(tuple(hit.counter for hit in hits), secret)


def _refuse_unknown(challenge: Challenge) -> None:
    if challenge.puzzle not in PUZZLES or not challenge.parts:
        raise TollMalformed("not a puzzle that this client can solve")
    costs = (challenge.passes, challenge.lanes) if challenge.memory_kib else (0, 0)
    wanted = (PASSES, LANES) if challenge.puzzle == ARGON2ID else (0, 0)
    if costs != wanted:
        raise TollMalformed("the puzzle's parameters are not of this version")


class _Chunks:
    """The counters of one part, handed out in order, to several threads too."""

    def __init__(self, end: int, size: int) -> None:
        self.issued = 0
        self._end = end
        self._size = size
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return self

    def __next__(self) -> tuple[int, int]:
        with self._lock:
            start = self.issued
            if start >= self._end:
                raise StopIteration
            self.issued = min(start + self._size, self._end)
            return start, self.issued


def _chunk(challenge: Challenge, *, alone: bool) -> int:
    if challenge.puzzle != ARGON2ID:
        return _SHA256_CHUNK
    return max(1, _ARGON2ID_CHUNK_KIB // challenge.memory_kib) if alone else 1


def _alone(search: _Search, part: Part, chunks: _Chunks, look: Callable[[int], None]) -> _Hit | None:
    look(0)
    for start, stop in chunks:
        hit = search(part, start, stop)
        if hit is not None:
            return hit
        look(stop)
    return None


def _race(
    pool: Executor, searches: list[_Search], part: Part, chunks: _Chunks, look: Callable[[int], None]
) -> _Hit | None:
    stop = threading.Event()

    def run(search: _Search) -> _Hit | None:
        try:
            for start, end in chunks:
                if stop.is_set():
                    break
                hit = search(part, start, end)
                if hit is not None:
                    return hit
            return None
        finally:
            stop.set()  # found, failed or no chunk left: the others end with the chunk that they hold

    look(0)
    futures = [pool.submit(run, search) for search in searches]
    try:
        while wait(futures, timeout=_POLL_SECONDS).not_done:
            look(chunks.issued)
    finally:
        stop.set()
    return min((hit for hit in (future.result() for future in futures) if hit is not None), default=None)


def _searches(challenge: Challenge, cores: int, stack: ExitStack) -> list[_Search]:
    """One search per core that is worth its while; what they need is closed by the stack."""
    if challenge.puzzle == ARGON2ID:
        useful = min(cores, max(part.bound for part in challenge.parts))
        return [_argon2id_search(challenge)] * max(1, useful)
    helped = cores > 1 and expected_evaluations(challenge) > HELPED_EVALUATIONS and _can_start_python()
    if helped:
        return [_sha256_search(challenge, stack.enter_context(_Helper()).scan) for _ in range(cores)]
    return [_sha256_search(challenge, scan.scan)]


def _argon2id_search(challenge: Challenge) -> _Search:
    def search(part: Part, start: int, stop: int) -> _Hit | None:
        try:
            for n in range(start, stop):
                value = evaluate(part.seed, n, challenge.memory_kib)
                if check_of(value) == part.check:
                    return _Hit(n, value)
        except HashingError as error:
            raise SolveStopped("the machine does not give the memory that the puzzle needs") from error
        return None

    return search


def _sha256_search(challenge: Challenge, scanner: Callable[[str, bytes, bytes, int, int], int]) -> _Search:
    def search(part: Part, start: int, stop: int) -> _Hit | None:
        goal = largest_digest(part.bound) if challenge.puzzle == HASHCASH else part.check
        n = scanner(challenge.puzzle, part.seed, goal, start, stop)
        return None if n == scan.MISS else _Hit(n, evaluate(part.seed, n, 0))

    return search


def _can_start_python() -> bool:
    """A frozen application's ``sys.executable`` is the application itself."""
    return bool(sys.executable) and not getattr(sys, "frozen", False)


class _Helper:
    """A process that scans on a further core, from entering to leaving the context."""

    def __init__(self) -> None:
        command = [sys.executable, "-I", "-S", scan.__file__]
        try:
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603  our own file
        except OSError as error:
            raise SolveStopped("a helper process could not start") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.__exit__(kind, error, trace)

    def scan(self, puzzle: str, seed: bytes, goal: bytes, start: int, stop: int) -> int:
        """As ``scan.scan``, over there."""
        questions, answers = self._process.stdin, self._process.stdout
        assert questions is not None
        assert answers is not None
        try:
            questions.write(f"{puzzle} {seed.hex()} {goal.hex()} {start} {stop}\n".encode())
            questions.flush()
            return int(answers.readline())
        except (OSError, ValueError) as error:
            raise SolveStopped("a helper process broke off") from error
