"""A hidden counter of BLAKE2b: the maker draws n, publishes half of F(n), and the solver counts up from 0 to it."""

from __future__ import annotations

import random
from hashlib import blake2b
from math import ceil

from modeltoll.errors import SettingsError, TollMalformed
from modeltoll.puzzle.puzzle import SolveControl, published_wait
from modeltoll.puzzle.registry import PuzzleContext, PuzzleSpec
from modeltoll.records import Work
from modeltoll.toll_records import Challenge, Part, Solution

NAME = "blake2b"
HALF, LOOK = 16, 4096  # bytes of F(n) that are published; evaluations between two looks at the control


def evaluate(seed: bytes, n: int) -> bytes:
    """F(n), 32 bytes."""
    return blake2b(seed + n.to_bytes(8, "big"), digest_size=2 * HALF).digest()


def solve(challenge: Challenge, control: SolveControl) -> Solution:
    """Count up to the counter; its secret is the half of F(n) that is not published."""
    (part,) = challenge.parts
    for n in range(part.bound):
        if n % LOOK == 0:
            control.check(n, part.bound)
        value = evaluate(part.seed, n)
        if value[:HALF] == part.check:
            return Solution((n,), value[HALF:])
    raise TollMalformed("no counter below the published bound solves the puzzle")


class Blake2bCounter:
    """One part; its bound is that of the published wait. It needs no memory."""

    name = NAME

    def __init__(self, context: PuzzleContext) -> None:
        if context.disclose == "blind":
            raise SettingsError([f"disclose: {NAME} cannot be blind"])
        self._rate = context.profile.rate(0)  # that of SHA-256, which takes a processor about as long
        self._disclose = context.disclose

    def within(self, memory_kib: int) -> Blake2bCounter:
        """Memory makes no difference."""
        return self

    def making_seconds(self, work: Work) -> float:
        """One evaluation, whatever the work."""
        return 1 / self._rate

    def make(self, work: Work, rng: random.Random) -> tuple[Challenge, Solution]:
        """A counter that takes ``work.seconds`` to find on average: (size + 1) / 2 evaluations."""
        size = 2 * work.seconds * self._rate - 1
        size = max(1, int(size) + (rng.random() < size % 1))
        seed, n = rng.randbytes(HALF), rng.randrange(size)
        wait = published_wait(work.seconds, self._disclose)
        bound = size if self._disclose == "exact" else max(1, ceil(wait * self._rate - 1))
        value = evaluate(seed, n)
        return Challenge(NAME, (Part(seed, bound, value[:HALF]),)), Solution((n,), value[HALF:])

    def solve(self, challenge: Challenge, control: SolveControl) -> Solution:
        """Do the work."""
        return solve(challenge, control)

    def check(self, challenge: Challenge, solution: Solution) -> bool:
        """Whether there is one counter, below the bound, and F of it begins as published."""
        if challenge.puzzle != NAME or len(solution.counters) != 1:
            return False
        (part,), (n,) = challenge.parts, solution.counters
        return 0 <= n < part.bound and evaluate(part.seed, n)[:HALF] == part.check


SPEC = PuzzleSpec(NAME, Blake2bCounter, preference=5, fast_hash=True, solver=solve)
