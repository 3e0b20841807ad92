"""Precomputed evaluations, so that no request waits for an evaluation that takes a tenth of a second.

A precomputed evaluation does not depend on the request: a seed, a counter drawn from 2^51 values, and F of it. For a
puzzle, n is drawn according to the work, and the published start is n below that counter. The distribution of the start
differs from uniform by at most N / 2^51 for every n, so it reveals nothing about n.

Refilling takes at most a tenth of one core, however many tolls are made: what the pool lacks is not made up for, and
puzzles then have less memory. So callers who pay no toll cannot use up the server.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from argon2.exceptions import HashingError

from modeltoll.puzzle.functions import SEED_BYTES, evaluator
from modeltoll.record_init import quick_init

if TYPE_CHECKING:
    import random

__all__ = [
    "MAX_PRECOMPUTED_BOUND",
    "PRECOMPUTED_KIB",
    "REFILL_SHARE",
    "PrecomputedEvaluation",
    "PrecomputedPool",
]

log = logging.getLogger("modeltoll.puzzle")

PRECOMPUTED_KIB = tuple((4 << 10) << step for step in range(7))  # 4 MiB to 256 MiB: four parts take 10 ms and more
REFILL_SHARE = 0.1  # of one core
MAX_PRECOMPUTED_BOUND = 2**32  # largest bound of a puzzle with a precomputed counter
_COUNTERS = 2**51
_NICE = 10  # niceness of the thread that refills the pool


@quick_init
@dataclass(frozen=True, slots=True)
class PrecomputedEvaluation:
    """``value`` is F(``counter``) under ``seed``, 32 bytes."""

    seed: bytes
    counter: int
    value: bytes = field(repr=False)


class PrecomputedPool:
    """A pool of ``depth`` evaluations for each memory (KiB), each of which is used once. Thread-safe.

    It is empty before ``fill`` or ``refilling``. ``rng`` is ``random.SystemRandom()`` outside of tests. ``share``: of one
    core, the most that ``refilling`` takes. ``thread_time``: seconds of processor time of the thread that asks.
    """

    def __init__(
        self,
        rng: random.Random,
        *,
        memories_kib: Sequence[int] = PRECOMPUTED_KIB,
        depth: int = 32,
        share: float = REFILL_SHARE,
        thread_time: Callable[[], float] = time.thread_time,
    ) -> None:
        self._rng = rng
        self._depth = depth
        self.share = share
        self._thread_time = thread_time
        self._evaluations: dict[int, deque[PrecomputedEvaluation]] = {
            memory: deque() for memory in sorted(memories_kib)
        }
        self._taken = threading.Event()

    def covers(self, memory_kib: int) -> bool:
        """Whether the pool has evaluations of that memory at all."""
        return memory_kib in self._evaluations

    def take(self, memory_kib: int, count: int) -> list[PrecomputedEvaluation]:
        """Remove and return ``count`` evaluations; an empty list if there are fewer."""
        queue, taken = self._evaluations[memory_kib], list[PrecomputedEvaluation]()
        try:
            while len(taken) < count:
                taken.append(queue.popleft())
        except IndexError:  # too few: put them back, for a puzzle of fewer parts
            queue.extend(taken)
            taken = []
        self._taken.set()
        return taken

    def fill(self, pause: Callable[[float], bool] = lambda _seconds: False) -> None:
        """Fill the pool until it is full; of the memories with the fewest evaluations the smallest comes first.

        ``pause`` is called after each evaluation with the seconds for which to rest, so that the share of one core is
        kept. It returns True to stop.

        Raises:
            argon2.exceptions.HashingError: the memory cannot be allocated.
        """
        while (memory := self._emptiest()) is not None:
            begin = self._thread_time()
            self._evaluations[memory].append(self._evaluate(memory))
            if pause((self._thread_time() - begin) * (1 / self.share - 1)):
                return

    @contextmanager
    def refilling(self) -> Iterator[None]:
        """Refill the pool in a background thread until the context is left."""
        ended = threading.Event()

        def refill() -> None:
            _lower_priority()
            while True:
                self._taken.clear()
                if ended.is_set():  # checked after clearing, so that a later signal ends the wait
                    return
                try:
                    self.fill(ended.wait)
                except HashingError as error:  # puzzles use less memory; the next take retries
                    log.warning("no memory to precompute puzzles: %s", error)
                self._taken.wait()

        thread = threading.Thread(target=refill, name="modeltoll-precompute", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            self._taken.set()
            thread.join()

    def _emptiest(self) -> int | None:
        """The smallest of the memories with the fewest evaluations; None if the pool is full."""
        sizes = {memory: len(queue) for memory, queue in self._evaluations.items()}
        memory = min(sizes, key=sizes.__getitem__)
        return memory if sizes[memory] < self._depth else None

    def _evaluate(self, memory_kib: int) -> PrecomputedEvaluation:
        seed, counter = self._rng.randbytes(SEED_BYTES), MAX_PRECOMPUTED_BOUND + self._rng.randrange(_COUNTERS)
        return PrecomputedEvaluation(seed, counter, evaluator(memory_kib)(seed, counter))


def _lower_priority() -> None:
    """Lower the priority of this thread below that of requests, on systems with priorities per thread."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
