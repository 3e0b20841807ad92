"""Hidden counters: the maker draws n, publishes a check of F(n), and the solver counts up from 0.

Making costs one evaluation per part, however large the work; a solver can skip no part and no counter. No wait
exceeds about twice its mean, and four parts bring its coefficient of variation from 0.58 to 0.29.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from modeltoll.puzzle.functions import (
    ARGON2ID,
    LANES,
    MAX_EVALUATIONS,
    PASSES,
    SEED_BYTES,
    SHA256,
    check_of,
    evaluator,
    secret_of,
    solves,
)
from modeltoll.puzzle.precomputed import MAX_PRECOMPUTED_BOUND, PrecomputedEvaluation, PrecomputedPool
from modeltoll.puzzle.puzzle import SolveControl
from modeltoll.puzzle.solver import solve
from modeltoll.records import Challenge, MachineProfile, Part, Solution, Work

if TYPE_CHECKING:
    import random

__all__ = [
    "LADDER",
    "MIN_EVALUATIONS",
    "PARTS",
    "PARTS_ABOVE",
    "Argon2idCounter",
    "Disclose",
    "Sha256Counter",
]

Disclose = Literal["exact", "coarse", "blind"]

PARTS, PARTS_ABOVE = 4, 64  # so many parts above so many expected evaluations
LADDER = tuple(256 << step for step in range(11))  # KiB: 256 KiB to 256 MiB
MIN_EVALUATIONS = 8  # expected evaluations that a rung of the ladder must leave


@dataclass(frozen=True, slots=True)
class _Rung:
    memory_kib: int
    rate: float  # evaluations per second


class _HiddenCounter:
    """What hidden counters share, whatever their function. ``rungs`` ascend in memory, and so do the ``steep`` ones.

    ``disclose`` rules the published bound of each part, never the work: ``exact`` is the true range of n, ``coarse``
    the next power of two, ``blind`` the bound that belongs to ``blind_seconds``, the most this puzzle ever asks.
    A blind puzzle always has one part on the first rung, or its shape would tell what its bound does not.
    """

    name: ClassVar[str]

    def __init__(
        self, rungs: tuple[_Rung, ...], disclose: Disclose, blind_seconds: float, steep: tuple[_Rung, ...] = ()
    ) -> None:
        if disclose not in ("exact", "coarse", "blind"):
            raise ValueError(f"disclose is exact, coarse or blind, not {disclose!r}")
        if disclose == "blind" and not 0 < blind_seconds <= MAX_EVALUATIONS / rungs[0].rate:
            raise ValueError("a blind puzzle needs blind_seconds, the most that it ever asks")
        self._rungs = rungs
        self._steep = steep or rungs  # for callers under suspicion
        self._disclose = disclose
        self._blind_seconds = blind_seconds

    def within(self, memory_kib: int) -> Self:  # noqa: ARG002  one rung, whatever the memory
        """As ``Puzzle.within``."""
        return self

    def make(self, work: Work, rng: random.Random) -> tuple[Challenge, Solution]:
        """As ``Puzzle.make``; one evaluation per part. Work below one evaluation costs one."""
        if not 0 <= work.seconds < math.inf:
            raise ValueError(f"work must be finite and >= 0 seconds, not {work.seconds}")
        blind = self._disclose == "blind"
        seconds = min(work.seconds, self._blind_seconds) if blind else work.seconds
        rungs = self._steep if work.suspected else self._rungs
        rung, ahead = self._choose(rungs[:1] if blind else rungs, seconds)
        evaluations = seconds * rung.rate
        if evaluations > MAX_EVALUATIONS:
            raise ValueError(f"work of {seconds} seconds is more than a puzzle can carry")
        count = 1 if blind else _part_count(evaluations)
        size = _range_size(evaluations / count, rng)
        counters = tuple([rng.randrange(size) for _ in range(count)])
        blanks = ahead or _evaluate_at(rung.memory_kib, counters, rng)
        bound = self._bound(size)
        parts = tuple(
            [
                Part(blank.seed, bound, check_of(blank.value), start=blank.counter - n)
                for blank, n in zip(blanks, counters, strict=True)
            ]
        )
        passes, lanes = (PASSES, LANES) if rung.memory_kib else (0, 0)
        challenge = Challenge(self.name, parts, rung.memory_kib, passes, lanes)
        return challenge, Solution(counters, b"".join([secret_of(blank.value) for blank in blanks]))

    def solve(self, challenge: Challenge, watch: SolveControl) -> Solution:
        """As ``Puzzle.solve``."""
        return solve(challenge, watch)

    def check(self, challenge: Challenge, solution: Solution) -> bool:
        """As ``Puzzle.check``."""
        return challenge.puzzle == self.name and solves(challenge, solution.counters)

    def _choose(self, rungs: tuple[_Rung, ...], seconds: float) -> tuple[_Rung, list[PrecomputedEvaluation]]:
        """The rung to use, and its evaluations where they were made ahead."""
        return _usable_rungs(rungs, seconds)[0], []

    def _bound(self, size: int) -> int:
        if self._disclose == "exact":
            return size
        if self._disclose == "coarse":
            return 1 << (size - 1).bit_length()
        return max(size, math.ceil(2 * self._blind_seconds * self._rungs[0].rate - 1))


def _usable_rungs(rungs: tuple[_Rung, ...], seconds: float) -> list[_Rung]:
    """Those that leave enough evaluations, the most memory first, else the first of all."""
    fitting = [rung for rung in reversed(rungs) if seconds * rung.rate >= MIN_EVALUATIONS]
    return fitting or [rungs[0]]


def _part_count(evaluations: float) -> int:
    return PARTS if evaluations > PARTS_ABOVE else 1


def _evaluate_at(memory_kib: int, counters: tuple[int, ...], rng: random.Random) -> list[PrecomputedEvaluation]:
    """One evaluation per part, where the count from 0 comes to its counter."""
    function = evaluator(memory_kib)
    drawn = rng.randbytes(SEED_BYTES * len(counters))
    seeds = [drawn[at : at + SEED_BYTES] for at in range(0, len(drawn), SEED_BYTES)]
    return [PrecomputedEvaluation(seed, n, function(seed, n)) for seed, n in zip(seeds, counters, strict=True)]


def _range_size(evaluations: float, rng: random.Random) -> int:
    """N with mean (N + 1) / 2 = ``evaluations`` exactly, for 1 and more: 2W - 1 rounded up or down by chance."""
    exact = 2 * evaluations - 1
    low = math.floor(exact)
    return max(1, low + (rng.random() < exact - low))


class Sha256Counter(_HiddenCounter):
    """A hidden counter under SHA-256, for clients without argon2 and for very small work."""

    name = SHA256

    def __init__(self, profile: MachineProfile, *, disclose: Disclose = "coarse", blind_seconds: float = 0.0) -> None:
        super().__init__((_Rung(0, profile.rate(0)),), disclose, blind_seconds)


class Argon2idCounter(_HiddenCounter):
    """A hidden counter under Argon2id, one pass and one lane.

    Each puzzle takes the largest memory of the ``ladder`` (KiB, up to ``max_memory_kib``) that leaves at least 8
    expected evaluations: the dearer the toll, the less a graphics card helps. For a caller under suspicion the ladder
    goes on to ``suspected_memory_kib`` where that is more, and nobody asks what memory his client has.

    What the ``stock`` makes ahead is never evaluated while a caller waits: where it has run out, a puzzle has less
    memory and more evaluations, so that a flood of dear tolls costs the server no more than cheap ones.
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
        stock: PrecomputedPool | None = None,
    ) -> None:
        highest = max(max_memory_kib, suspected_memory_kib)
        steep = tuple(_Rung(memory, profile.rate(memory)) for memory in sorted(ladder) if memory <= highest)
        rungs = tuple(rung for rung in steep if rung.memory_kib <= max_memory_kib)
        if not rungs:
            raise ValueError("the ladder has no rung within max_memory_kib")
        super().__init__(rungs, disclose, blind_seconds, steep)
        self._stock = stock
        self._lower: dict[int, Argon2idCounter] = {}

    def within(self, memory_kib: int) -> Argon2idCounter:
        """The same puzzle on the rungs up to ``memory_kib``; the lowest rung always stays. Made once per height.

        A caller under suspicion still meets the whole ladder.
        """
        height = max(1, sum(rung.memory_kib <= memory_kib for rung in self._rungs))
        if height == len(self._rungs):
            return self
        if height not in self._lower:
            lower = copy(self)
            lower._rungs, lower._lower = self._rungs[:height], {}  # noqa: SLF001  its own class
            self._lower[height] = lower
        return self._lower[height]

    def _choose(self, rungs: tuple[_Rung, ...], seconds: float) -> tuple[_Rung, list[PrecomputedEvaluation]]:
        """What is made ahead is used only as long as it lasts; then the memory is the most that is made at once."""
        fitting, stock = _usable_rungs(rungs, seconds), self._stock
        for rung in fitting:
            evaluations = seconds * rung.rate
            if stock is None or not stock.holds(rung.memory_kib) or evaluations > MAX_PRECOMPUTED_BOUND / 2:
                return rung, []
            if blanks := stock.take(rung.memory_kib, _part_count(evaluations)):
                return rung, blanks
        return fitting[-1], []
