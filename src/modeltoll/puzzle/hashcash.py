"""The paper's puzzle: a digest below a target. Interactive, and for redeem mode only: its counter unlocks nothing.

The challenge string is the part's seed, 16 random bytes of the server; its expiry is the token's, which holds the
challenge and binds whatever solves it to the caller and the request that it was issued for (``seal.py``). So a stamp
cannot be made before its challenge, by its solver alone, for another toll, or after its time.

The target is real-valued, so the work has no steps of two; ``bits_only`` gives the paper's leading zero bits back.
The wait is geometric: its standard deviation equals its mean, and p99 is 4.6 times the mean (PAPER.md section 6.11).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from modeltoll.puzzle.functions import HASHCASH, HASHCASH_SHA1, HASHCASHES, MAX_EVALUATIONS, SEED_BYTES, solves
from modeltoll.puzzle.puzzle import SolveControl
from modeltoll.puzzle.solver import solve
from modeltoll.records import Challenge, MachineProfile, Part, Solution, Work

if TYPE_CHECKING:
    import random

__all__ = ["Digest", "Hashcash", "bits_bound"]

Digest = Literal["sha256", "sha1"]
_NAMES: dict[Digest, str] = {"sha256": HASHCASH, "sha1": HASHCASH_SHA1}
assert set(_NAMES.values()) == set(HASHCASHES)


def bits_bound(bits: int) -> int:
    """The bound of a part whose digest must begin with so many zero bits, 0 to 48: its expected evaluations."""
    if not 0 <= bits <= 48:
        raise ValueError(f"{bits} leading zero bits are not within 0..48")
    return 1 << bits


class Hashcash:
    """digest(seed || counter), read as a big-endian integer, times the bound must stay below 2 to its bits.

    The bound is the number of evaluations expected, rounded up or down by chance so that its mean is exact.
    ``digest`` is SHA-256, or the older SHA-1 for comparison with the paper, which one core of the reference machine
    does equally fast. ``bits_only`` rounds the bound down to a power of two, floor(log2 W) leading zero bits (the
    paper, section 3).
    """

    def __init__(self, profile: MachineProfile, *, digest: Digest = "sha256", bits_only: bool = False) -> None:
        if digest not in _NAMES:
            raise ValueError(f"digest is sha256 or sha1, not {digest!r}")
        self.name = _NAMES[digest]
        self._rate = profile.rate(0)
        self._bits_only = bits_only

    def within(self, memory_kib: int) -> Hashcash:  # noqa: ARG002  it needs none
        """As ``Puzzle.within``."""
        return self

    def make(self, work: Work, rng: random.Random) -> tuple[Challenge, None]:
        """As ``Puzzle.make``; nobody knows the solution. Work below one evaluation costs one."""
        evaluations = work.seconds * self._rate
        if not 0 <= evaluations <= MAX_EVALUATIONS:
            raise ValueError(f"work of {work.seconds} seconds is not what a puzzle can carry")
        return Challenge(self.name, (Part(rng.randbytes(SEED_BYTES), self._bound(evaluations, rng)),)), None

    def solve(self, challenge: Challenge, watch: SolveControl) -> Solution:
        """As ``Puzzle.solve``."""
        return solve(challenge, watch)

    def check(self, challenge: Challenge, solution: Solution) -> bool:
        """As ``Puzzle.check``: one hash."""
        return challenge.puzzle == self.name and solves(challenge, solution.counters)

    def _bound(self, evaluations: float, rng: random.Random) -> int:
        if self._bits_only:
            return bits_bound(math.floor(math.log2(max(evaluations, 1.0))))
        low = math.floor(evaluations)
        return max(1, low + (rng.random() < evaluations - low))
