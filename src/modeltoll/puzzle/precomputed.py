"""Evaluations made ahead: where one takes a tenth of a second, no request waits for it.

What is made ahead does not depend on the request: the seed, a counter drawn from 2^51, and F of it. When a puzzle is
wanted, n is drawn for its work and the count is published to start n below that counter. The start is as good as
uniform whatever n is (it differs from uniform by at most N / 2^51), so it tells nothing.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from argon2.exceptions import HashingError

from modeltoll.puzzle.functions import SEED_BYTES, evaluator

if TYPE_CHECKING:
    import random

__all__ = ["MAX_PRECOMPUTED_BOUND", "PRECOMPUTED_KIB", "PrecomputedEvaluation", "PrecomputedPool"]

log = logging.getLogger("modeltoll.puzzle")

PRECOMPUTED_KIB = (32 << 10, 64 << 10, 128 << 10, 256 << 10)
MAX_PRECOMPUTED_BOUND = 2**32  # what a blank's counter leaves room for below it
_COUNTERS = 2**51
_NICE = 10


@dataclass(frozen=True, slots=True)
class PrecomputedEvaluation:
    """An evaluation without its puzzle: ``value`` is F(``counter``) under ``seed``."""

    seed: bytes
    counter: int
    value: bytes = field(repr=False)


class PrecomputedPool:
    """So many blanks of each memory (KiB), each given out once. Any number of threads may take from it.

    It is empty until ``fill`` was called, or within ``kept``.
    ``rng`` is ``random.SystemRandom()`` outside of tests.
    """

    def __init__(self, rng: random.Random, *, memories_kib: Sequence[int] = PRECOMPUTED_KIB, depth: int = 8) -> None:
        self._rng = rng
        self._depth = depth
        self._shelves: dict[int, deque[PrecomputedEvaluation]] = {memory: deque() for memory in sorted(memories_kib)}
        self._taken = threading.Event()

    def holds(self, memory_kib: int) -> bool:
        """Whether puzzles of that memory are made ahead at all."""
        return memory_kib in self._shelves

    def take(self, memory_kib: int, count: int) -> list[PrecomputedEvaluation]:
        """That many blanks, which nobody else gets; none where there are not so many."""
        shelf, blanks = self._shelves[memory_kib], list[PrecomputedEvaluation]()
        try:
            while len(blanks) < count:
                blanks.append(shelf.popleft())
        except IndexError:  # back with them, for a puzzle of fewer parts
            shelf.extend(blanks)
            blanks = []
        self._taken.set()
        return blanks

    def fill(self, stopped: Callable[[], bool] = lambda: False) -> None:
        """Make what is missing, the cheaper ones first, until it is there or ``stopped`` says so.

        Raises:
            argon2.exceptions.HashingError: the machine does not give the memory.
        """
        for memory, shelf in self._shelves.items():
            function = evaluator(memory)
            while len(shelf) < self._depth and not stopped():
                shelf.append(self._blank(function))

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep it full, in a thread of its own, for as long as the block lasts."""
        ended = threading.Event()

        def keep() -> None:
            _lower_priority()
            while True:
                self._taken.clear()
                if ended.is_set():  # after clearing: what is set from now on ends the wait
                    return
                try:
                    self.fill(ended.is_set)
                except HashingError as error:  # puzzles get on with less memory; what is taken next tries again
                    log.warning("no memory to make puzzles ahead: %s", error)
                self._taken.wait()

        keeper = threading.Thread(target=keep, name="modeltoll-stock", daemon=True)
        keeper.start()
        try:
            yield
        finally:
            ended.set()
            self._taken.set()
            keeper.join()

    def _blank(self, function: Callable[[bytes, int], bytes]) -> PrecomputedEvaluation:
        seed, counter = self._rng.randbytes(SEED_BYTES), MAX_PRECOMPUTED_BOUND + self._rng.randrange(_COUNTERS)
        return PrecomputedEvaluation(seed, counter, function(seed, counter))


def _lower_priority() -> None:
    """Let this thread have what the requests leave of the processor, where the system can tell threads apart."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
