"""Searchers for counters: one per core where that pays off, and the number of counters they try per call."""

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
    DIGEST_NAMES,
    HASHCASH_SHA1,
    HASHCASHES,
    argon2id,
    digest_range,
    evaluate,
    hashcash_digest,
)
from modeltoll.puzzle.native_kernels import PYTHON, Kernel, Scan, kernels
from modeltoll.puzzle.puzzle import expected_evaluations
from modeltoll.toll_records import Challenge, Part

__all__ = ["PARALLEL_CHUNKS", "Match", "Search", "SearcherPool", "start_searchers"]

PARALLEL_CHUNKS = 64  # of SHA-256, about 0.15 s of pure Python; for more work threads and helper processes pay off
_INLINE_KIB = 8192  # up to this memory an evaluation takes at most about 10 ms, and may run in the calling thread
_CHUNK_KIB = 4096  # memory times evaluations per chunk, a few milliseconds
_SHARED_CHUNK_KIB = 1024  # the same for several searchers
_NO_MEMORY = "the machine cannot allocate the memory that the puzzle needs"


class Match(NamedTuple):
    """A counter that was found, and F of it (its digest for hashcash)."""

    counter: int
    value: bytes


Search: TypeAlias = Callable[[Part, int, int], Match | None]  # (part, start, stop): counters from start to stop


@dataclass(frozen=True, slots=True)
class SearcherPool:
    """Search functions. ``chunk``: counters per call. ``threaded``: each runs in its own thread, else in the caller's."""

    searches: tuple[Search, ...]
    chunk: int
    threaded: bool


def start_searchers(challenge: Challenge, cores: int, stack: ExitStack, kernel: Kernel | None = None) -> SearcherPool:
    """The searchers for a challenge on up to ``cores`` cores. ``stack`` ends helper processes.

    ``kernel``: ``PYTHON`` for no native kernel at all.

    Raises:
        SolveStopped: the memory cannot be allocated, or a helper process cannot start.
    """
    if challenge.puzzle == ARGON2ID:
        count = min(cores, max(part.bound for part in challenge.parts))
        return _argon2id_searchers(challenge, count, native=kernel is not PYTHON)
    if kernel is None:
        kernel = PYTHON if challenge.puzzle == HASHCASH_SHA1 else kernels()[0]
    parallel = cores > 1 and expected_evaluations(challenge) > PARALLEL_CHUNKS * kernel.chunk
    if parallel and kernel.threads:
        return SearcherPool((_hash_search(challenge, kernel.scan),) * cores, kernel.chunk, threaded=True)
    if parallel and _can_start_python():
        helpers = [stack.enter_context(_ScanProcess()) for _ in range(cores)]
        return SearcherPool(
            tuple(_hash_search(challenge, helper.scan) for helper in helpers), kernel.chunk, threaded=True
        )
    return SearcherPool((_hash_search(challenge, kernel.scan),), kernel.chunk, threaded=False)


def _argon2id_searchers(challenge: Challenge, count: int, *, native: bool) -> SearcherPool:
    memory = challenge.memory_kib
    threaded = count > 1 or memory > _INLINE_KIB
    searches = tuple(_argon2id_search(memory, native=native) for _ in range(max(1, count)))
    return SearcherPool(searches, max(1, (_SHARED_CHUNK_KIB if threaded else _CHUNK_KIB) // memory), threaded)


def _argon2id_search(memory_kib: int, *, native: bool) -> Search:
    try:
        function = argon2id(memory_kib, native=native)
    except HashingError as error:
        raise SolveStopped(_NO_MEMORY) from error

    def search(part: Part, start: int, stop: int) -> Match | None:
        try:
            found = function.search(part.seed, part.check, part.start + start, part.start + stop)
        except HashingError as error:
            raise SolveStopped(_NO_MEMORY) from error
        return Match(found[0] - part.start, found[1]) if found else None

    return search


def _hash_search(challenge: Challenge, scan: Scan) -> Search:
    puzzle, digest = challenge.puzzle, DIGEST_NAMES[challenge.puzzle]

    def search(part: Part, start: int, stop: int) -> Match | None:
        n = scan(digest, part.seed, *digest_range(challenge, part), start, stop)
        if n == hash_scan.MISS:
            return None
        return Match(n, hashcash_digest(puzzle, part.seed, n) if puzzle in HASHCASHES else evaluate(part.seed, n, 0))

    return search


def _can_start_python() -> bool:
    """False for a frozen application, whose ``sys.executable`` is the application itself."""
    return bool(sys.executable) and not getattr(sys, "frozen", False)


class _ScanProcess:
    """A helper process that scans on another core; leaving the context kills it."""

    def __init__(self) -> None:
        command = [sys.executable, "-I", "-S", hash_scan.__file__]
        try:
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603  a file of this package
        except OSError as error:
            raise SolveStopped("a helper process could not start") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.__exit__(kind, error, trace)

    def scan(self, digest: str, seed: bytes, least: bytes, most: bytes, start: int, stop: int) -> int:
        """As ``hash_scan.scan``, in the helper process."""
        requests, answers = self._process.stdin, self._process.stdout
        assert requests is not None
        assert answers is not None
        try:
            limits = f"{seed.hex()} {least.hex() or hash_scan.NOTHING} {most.hex()}"
            requests.write(f"{digest} {limits} {start} {stop}\n".encode())
            requests.flush()
            return int(answers.readline())
        except (OSError, ValueError) as error:
            raise SolveStopped("a helper process ended unexpectedly") from error
