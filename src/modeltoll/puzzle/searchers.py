"""Who searches: one searcher per core that is worth its while, and how much each does between two looks."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple, Self, TypeAlias

from argon2.exceptions import HashingError

from modeltoll.errors import SolveStopped
from modeltoll.puzzle import hash_scan
from modeltoll.puzzle.functions import (
    ARGON2ID,
    HASHCASH_SHA1,
    HASHCASHES,
    check_of,
    evaluate,
    evaluator,
    hashcash_digest,
    largest_digest,
)
from modeltoll.puzzle.native_kernels import PYTHON, Kernel, kernels
from modeltoll.puzzle.puzzle import expected_evaluations
from modeltoll.records import Challenge, Part

__all__ = ["PARALLEL_CHUNKS", "Match", "Search", "SearcherPool", "start_searchers"]

PARALLEL_CHUNKS = 64  # of SHA-256, some 0.15 s of plain Python: above it helper processes and threads earn their start
_INLINE_KIB = 8192  # an evaluation of up to some 10 ms can be waited for, also on a slow machine
_CHUNK_KIB = 4096  # evaluations of a few milliseconds together
_SHARED_CHUNK_KIB = 1024  # the same where searchers hand each other their turns
_NO_MEMORY = "the machine does not give the memory that the puzzle needs"


class Match(NamedTuple):
    """What was found: the counter, and F of it (a digest for hashcash)."""

    counter: int
    value: bytes


Search: TypeAlias = Callable[[Part, int, int], Match | None]  # through the counters from start to stop


@dataclass(frozen=True, slots=True)
class SearcherPool:
    """Searchers, each for a thread of its own where they work ``beside`` the caller; ``chunk`` is in counters."""

    searches: tuple[Search, ...]
    chunk: int
    beside: bool


def start_searchers(challenge: Challenge, cores: int, stack: ExitStack, kernel: Kernel | None = None) -> SearcherPool:
    """The crew for a challenge on so many cores; what it needs is closed by the stack.

    Raises:
        SolveStopped: the machine gives no memory or no helper process.
    """
    if challenge.puzzle == ARGON2ID:
        return _argon2id_searchers(challenge, min(cores, max(part.bound for part in challenge.parts)))
    if kernel is None:
        kernel = PYTHON if challenge.puzzle == HASHCASH_SHA1 else kernels()[0]
    helped = cores > 1 and expected_evaluations(challenge) > PARALLEL_CHUNKS * kernel.chunk
    if helped and kernel.threads:
        return SearcherPool((_hash_search(challenge, kernel.scan),) * cores, kernel.chunk, beside=True)
    if helped and _can_start_python():
        helpers = [stack.enter_context(_ScanProcess()) for _ in range(cores)]
        return SearcherPool(
            tuple(_hash_search(challenge, helper.scan) for helper in helpers), kernel.chunk, beside=True
        )
    return SearcherPool((_hash_search(challenge, kernel.scan),), kernel.chunk, beside=False)


def _argon2id_searchers(challenge: Challenge, count: int) -> SearcherPool:
    memory = challenge.memory_kib
    beside = count > 1 or memory > _INLINE_KIB
    searches = tuple(_argon2id_search(memory) for _ in range(max(1, count)))
    return SearcherPool(searches, max(1, (_SHARED_CHUNK_KIB if beside else _CHUNK_KIB) // memory), beside)


def _argon2id_search(memory_kib: int) -> Search:
    try:
        function = evaluator(memory_kib)
    except HashingError as error:
        raise SolveStopped(_NO_MEMORY) from error

    def search(part: Part, start: int, stop: int) -> Match | None:
        try:
            for n in range(start, stop):
                value = function(part.seed, part.start + n)
                if check_of(value) == part.check:
                    return Match(n, value)
        except HashingError as error:
            raise SolveStopped(_NO_MEMORY) from error
        return None

    return search


def _hash_search(challenge: Challenge, scanner: Callable[[str, bytes, bytes, int, int], int]) -> Search:
    puzzle = challenge.puzzle

    def search(part: Part, start: int, stop: int) -> Match | None:
        goal = largest_digest(part.bound, puzzle) if puzzle in HASHCASHES else part.check
        n = scanner(puzzle, part.seed, goal, start, stop)
        if n == hash_scan.MISS:
            return None
        return Match(n, hashcash_digest(puzzle, part.seed, n) if puzzle in HASHCASHES else evaluate(part.seed, n, 0))

    return search


def _can_start_python() -> bool:
    """A frozen application's ``sys.executable`` is the application itself."""
    return bool(sys.executable) and not getattr(sys, "frozen", False)


class _ScanProcess:
    """A process that scans on a further core, from entering to leaving the context."""

    def __init__(self) -> None:
        command = [sys.executable, "-I", "-S", hash_scan.__file__]
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
        """As ``hash_scan.scan``, over there."""
        questions, answers = self._process.stdin, self._process.stdout
        assert questions is not None
        assert answers is not None
        try:
            questions.write(f"{puzzle} {seed.hex()} {goal.hex()} {start} {stop}\n".encode())
            questions.flush()
            return int(answers.readline())
        except (OSError, ValueError) as error:
            raise SolveStopped("a helper process broke off") from error
