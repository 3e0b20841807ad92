"""Hidden counters: the server draws n and publishes a check of F(n); the solver counts up from 0.

Making a puzzle takes one evaluation per part, independent of the work. A solver can skip neither parts nor counters.
The wait is at most about twice its mean, and four parts reduce its coefficient of variation from 0.58 to 0.29.

Memory, number of parts and bounds are functions of the published wait alone (``puzzle.published_wait``), never of the
work itself: two works that publish the same wait have challenges of the same shape. Only n is drawn from the work.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from modeltoll.puzzle.functions import (
    ARGON2ID,
    LANES,
    MAX_EVALUATIONS,
    PASSES,
    SEED_BYTES,
    SHA256,
    check_of,
    kept_evaluator,
    secret_of,
    solves,
)
from modeltoll.puzzle.precomputed import MAX_PRECOMPUTED_BOUND, PrecomputedEvaluation, PrecomputedPool
from modeltoll.puzzle.puzzle import Disclose, SolveControl, published_wait
from modeltoll.puzzle.solver import solve
from modeltoll.records import MachineProfile, Work
from modeltoll.toll_records import Challenge, Part, Solution

if TYPE_CHECKING:
    import random

__all__ = [
    "LADDER",
    "LEAST_SUSPECTED_KIB",
    "MAKING_SECONDS",
    "MIN_EVALUATIONS",
    "PARTS",
    "PARTS_ABOVE",
    "Argon2idCounter",
    "Sha256Counter",
]

PARTS, PARTS_ABOVE = 4, 64  # number of parts above this number of evaluations in half the published wait; 1 below
LADDER = tuple(64 << step for step in range(13))  # KiB: 64 KiB to 256 MiB
MIN_EVALUATIONS = 8  # least evaluations in half the published wait, with which a rung of the ladder may be used
MAKING_SECONDS = 0.010  # of processor time, by the profile: the most that making a puzzle takes
_MOST_WAITS = 256  # whose usable rungs are remembered
LEAST_SUSPECTED_KIB = 8 << 10  # the least limit of memory for callers under suspicion


@dataclass(frozen=True, slots=True)
class _Rung:
    memory_kib: int
    rate: float  # evaluations per second


class _HiddenCounter:
    """The base of hidden counters, independent of the function.

    ``rungs``: the usable memories, ascending. ``suspected_rungs``: the same for callers under suspicion. ``disclose``
    determines what is published, not the work: ``exact`` is the true range of n; ``coarse`` is the bound of the largest
    work whose wait is rounded up to the same power of two of seconds; ``blind`` is the bound for ``blind_seconds``, the
    largest work of this puzzle. A blind puzzle always has one part on the first rung.
    """

    name: ClassVar[str]

    def __init__(
        self,
        rungs: tuple[_Rung, ...],
        disclose: Disclose,
        blind_seconds: float,
        suspected_rungs: tuple[_Rung, ...] = (),
    ) -> None:
        if disclose not in ("exact", "coarse", "blind"):
            raise ValueError(f"disclose is exact, coarse or blind, not {disclose!r}")
        if disclose == "blind" and not 0 < blind_seconds <= MAX_EVALUATIONS / rungs[0].rate:
            raise ValueError("a blind puzzle needs blind_seconds, the largest work that it can have")
        self._disclose = disclose
        self._blind_seconds = blind_seconds
        self._set_rungs(rungs, suspected_rungs or rungs)

    def _set_rungs(self, rungs: tuple[_Rung, ...], suspected_rungs: tuple[_Rung, ...]) -> None:
        self._rungs = rungs
        self._suspected_rungs = suspected_rungs  # for callers under suspicion
        self._usable_at: dict[tuple[float, bool], list[_Rung]] = {}  # by the published wait, and whether suspected

    def within(self, memory_kib: int) -> Self:  # noqa: ARG002  one rung, whatever the memory
        """As ``Puzzle.within``."""
        return self

    def making_seconds(self, work: Work) -> float:
        """As ``Puzzle.making_seconds``: where no precomputed evaluations are left."""
        usable, wait = self._usable(work)
        for rung in usable:
            seconds = self._part_count(wait, rung) / rung.rate
            if seconds <= MAKING_SECONDS:
                break
        return seconds

    def make(self, work: Work, rng: random.Random) -> tuple[Challenge, Solution]:
        """As ``Puzzle.make``, with one evaluation per part. Work below one evaluation is raised to one."""
        if not 0 <= work.seconds < math.inf:
            raise ValueError(f"work must be finite and >= 0 seconds, not {work.seconds}")
        seconds = min(work.seconds, self._blind_seconds) if self._disclose == "blind" else work.seconds
        if seconds * self._rungs[0].rate > MAX_EVALUATIONS:
            raise ValueError(f"work of {seconds} seconds is more than a puzzle can carry")
        usable, wait = self._usable(work)
        rung, precomputed = self._choose(usable, wait)
        count = self._part_count(wait, rung)
        size = _range_size(_range(2 * seconds, rung, count), rng)
        counters = tuple([rng.randrange(size) for _ in range(count)])
        evaluated = precomputed or _evaluate_at(rung.memory_kib, counters, rng)
        bound = size if self._disclose == "exact" else max(1, math.ceil(_range(wait, rung, count)))
        parts = tuple(
            [
                Part(evaluation.seed, bound, check_of(evaluation.value), start=evaluation.counter - n)
                for evaluation, n in zip(evaluated, counters, strict=True)
            ]
        )
        passes, lanes = (PASSES, LANES) if rung.memory_kib else (0, 0)
        challenge = Challenge(self.name, parts, rung.memory_kib, passes, lanes)
        return challenge, Solution(counters, b"".join([secret_of(evaluation.value) for evaluation in evaluated]))

    def solve(self, challenge: Challenge, control: SolveControl) -> Solution:
        """As ``Puzzle.solve``."""
        return solve(challenge, control)

    def check(self, challenge: Challenge, solution: Solution) -> bool:
        """As ``Puzzle.check``."""
        return challenge.puzzle == self.name and solves(challenge, solution.counters)

    def _usable(self, work: Work) -> tuple[list[_Rung], float]:
        """The rungs that leave enough evaluations, the largest memory first, else the lowest rung; and the published wait."""
        wait = published_wait(work.seconds, self._disclose, self._blind_seconds)
        key = wait, work.suspected
        usable = self._usable_at.get(key)
        if usable is None:
            if len(self._usable_at) >= _MOST_WAITS:
                self._usable_at.clear()
            usable = self._usable_at[key] = self._find_usable(*key)
        return usable, wait

    def _find_usable(self, wait: float, suspected: bool) -> list[_Rung]:
        rungs = self._suspected_rungs if suspected else self._rungs
        if self._disclose == "blind":
            return [rungs[0]]
        return [rung for rung in reversed(rungs) if wait / 2 * rung.rate >= MIN_EVALUATIONS] or [rungs[0]]

    def _part_count(self, wait: float, rung: _Rung) -> int:
        return PARTS if self._disclose != "blind" and wait / 2 * rung.rate > PARTS_ABOVE else 1

    def _choose(self, usable: list[_Rung], wait: float) -> tuple[_Rung, list[PrecomputedEvaluation]]:  # noqa: ARG002
        """The rung to use for a published wait, and precomputed evaluations for it, if any."""
        return usable[0], []


def _range(wait: float, rung: _Rung, count: int) -> float:
    """The range N of each of ``count`` counters with which the largest wait is ``wait``, not rounded yet.

    (N + 1) / 2 is the mean number of evaluations, so N is one less than twice that mean.
    """
    return wait * rung.rate / count - 1


def _range_size(exact: float, rng: random.Random) -> int:
    """The range ``exact``, rounded up or down at random, so that the expected work is exact; at least 1."""
    low = math.floor(exact)
    return max(1, low + (rng.random() < exact - low))


def _evaluate_at(memory_kib: int, counters: tuple[int, ...], rng: random.Random) -> list[PrecomputedEvaluation]:
    """Evaluate each counter under a fresh seed."""
    function = kept_evaluator(memory_kib)
    drawn = rng.randbytes(SEED_BYTES * len(counters))
    seeds = [drawn[at : at + SEED_BYTES] for at in range(0, len(drawn), SEED_BYTES)]
    return [PrecomputedEvaluation(seed, n, function(seed, n)) for seed, n in zip(seeds, counters, strict=True)]


class Sha256Counter(_HiddenCounter):
    """A hidden counter with SHA-256, for clients without argon2 and for very small work."""

    name = SHA256

    def __init__(self, profile: MachineProfile, *, disclose: Disclose = "coarse", blind_seconds: float = 0.0) -> None:
        super().__init__((_Rung(0, profile.rate(0)),), disclose, blind_seconds)


class Argon2idCounter(_HiddenCounter):
    """A hidden counter with Argon2id, one pass and one lane.

    Each puzzle uses the largest memory of the ``ladder`` (KiB, up to ``max_memory_kib``) of which half the published wait
    holds at least 8 evaluations: the larger the work, the smaller the advantage of a GPU. For a caller under suspicion
    the ladder extends to ``suspected_memory_kib`` if that is more.

    ``precomputed``: its evaluations are used first. A memory of which it has too few is used only where the puzzle is
    made within ``MAKING_SECONDS`` of processor time; else the puzzle has less memory and more evaluations. So an
    expensive toll costs the server no more than a cheap one.
    """

    name = ARGON2ID

    def __init__(  # noqa: PLR0913  each is an independent choice with a default
        self,
        profile: MachineProfile,
        *,
        ladder: Iterable[int] = LADDER,
        max_memory_kib: int = 8192,
        suspected_memory_kib: int = 0,
        disclose: Disclose = "coarse",
        blind_seconds: float = 0.0,
        precomputed: PrecomputedPool | None = None,
    ) -> None:
        highest = max(max_memory_kib, suspected_memory_kib)
        suspected_rungs = tuple(_Rung(memory, profile.rate(memory)) for memory in sorted(ladder) if memory <= highest)
        rungs = tuple(rung for rung in suspected_rungs if rung.memory_kib <= max_memory_kib)
        if not rungs:
            raise ValueError("the ladder has no rung within max_memory_kib")
        super().__init__(rungs, disclose, blind_seconds, suspected_rungs)
        self._precomputed = precomputed
        self._limited: dict[tuple[int, int], Argon2idCounter] = {}

    def within(self, memory_kib: int) -> Argon2idCounter:
        """The same puzzle on the rungs up to ``memory_kib``, at least the lowest one; cached per number of rungs.

        For a caller under suspicion the limit is not below 8 MiB.
        """
        if memory_kib >= self._suspected_rungs[-1].memory_kib:
            return self
        count = _count_within(self._rungs, memory_kib)
        suspected_count = _count_within(self._suspected_rungs, max(memory_kib, LEAST_SUSPECTED_KIB))
        if (count, suspected_count) == (len(self._rungs), len(self._suspected_rungs)):
            return self
        limited = self._limited.get((count, suspected_count))
        if limited is None:
            limited = copy(self)
            limited._limited = {}  # noqa: SLF001  the same class
            limited._set_rungs(self._rungs[:count], self._suspected_rungs[:suspected_count])  # noqa: SLF001
            self._limited[count, suspected_count] = limited
        return limited

    def _choose(self, usable: list[_Rung], wait: float) -> tuple[_Rung, list[PrecomputedEvaluation]]:
        """The highest usable rung whose evaluations are precomputed, or are made within ``MAKING_SECONDS``."""
        stock = self._precomputed
        for rung in usable:
            count = self._part_count(wait, rung)
            if stock is not None and stock.covers(rung.memory_kib) and wait * rung.rate <= MAX_PRECOMPUTED_BOUND:
                evaluated = stock.take(rung.memory_kib, count)
                if evaluated:
                    return rung, evaluated
            if count / rung.rate <= MAKING_SECONDS:
                return rung, []
        return usable[-1], []


def _count_within(rungs: tuple[_Rung, ...], memory_kib: int) -> int:
    return max(1, sum(rung.memory_kib <= memory_kib for rung in rungs))
