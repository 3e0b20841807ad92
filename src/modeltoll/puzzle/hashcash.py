"""Hashcash, the puzzle of the paper: a digest below a target. Interactive, and for redeem mode only.

The challenge is the part's seed, 16 random bytes of the server. The token contains the challenge and its expiry, and
binds the solution to the caller and the request (``seal``). A solution can therefore not be made before the challenge,
nor be used for another toll or after the expiry.

The bound is the expected work itself, so a toll publishes it exactly, whatever ``disclose`` says: a bound that is rounded
would be other work, and one that is drawn so that its mean is exact would show the work by how often it is drawn. So
hashcash is not for tolls that are blind.

The target is a real number, so that work is not limited to powers of two; ``bits_only`` gives the paper's leading zero
bits. The wait is geometric: its standard deviation equals its mean, and its p99 is 4.6 times the mean.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from modeltoll.puzzle.functions import HASHCASH, HASHCASH_SHA1, HASHCASHES, MAX_EVALUATIONS, SEED_BYTES, solves
from modeltoll.puzzle.puzzle import SolveControl
from modeltoll.puzzle.solver import solve
from modeltoll.records import MachineProfile, Work
from modeltoll.toll_records import Challenge, Part, Solution

if TYPE_CHECKING:
    import random

__all__ = ["Digest", "Hashcash", "bits_bound"]

Digest = Literal["sha256", "sha1"]
_NAMES: dict[Digest, str] = {"sha256": HASHCASH, "sha1": HASHCASH_SHA1}
assert set(_NAMES.values()) == set(HASHCASHES)


def bits_bound(bits: int) -> int:
    """The bound (expected evaluations) of a part whose digest must begin with ``bits`` zero bits, 0 to 48.

    Raises:
        ValueError: ``bits`` is out of range.
    """
    if not 0 <= bits <= 48:
        raise ValueError(f"{bits} leading zero bits are not within 0..48")
    return 1 << bits


class Hashcash:
    """digest(seed || counter), as a big-endian integer, times the bound must be below 2 to the digest's bits.

    The bound is the expected number of evaluations, rounded up or down at random so that its mean is exact. ``digest``:
    ``sha256``, or ``sha1`` for comparison with the paper; the reference machine computes both equally fast.
    ``bits_only`` rounds the bound down to a power of two: floor(log2 W) leading zero bits (Dziedzic et al. 2022,
    section 3).
    """

    def __init__(self, profile: MachineProfile, *, digest: Digest = "sha256", bits_only: bool = False) -> None:
        if digest not in _NAMES:
            raise ValueError(f"digest is sha256 or sha1, not {digest!r}")
        self.name = _NAMES[digest]
        self._rate = profile.rate(0)
        self._bits_only = bits_only

    def within(self, memory_kib: int) -> Hashcash:  # noqa: ARG002  it needs no memory
        """As ``Puzzle.within``."""
        return self

    def making_seconds(self, work: Work) -> float:  # noqa: ARG002  whatever the work
        """As ``Puzzle.making_seconds``: nothing is evaluated."""
        return 0.0

    def make(self, work: Work, rng: random.Random) -> tuple[Challenge, None]:
        """As ``Puzzle.make``; the solution is unknown. Work below one evaluation is raised to one."""
        evaluations = work.seconds * self._rate
        if not 0 <= evaluations <= MAX_EVALUATIONS:
            raise ValueError(f"a puzzle cannot have work of {work.seconds} seconds")
        return Challenge(self.name, (Part(rng.randbytes(SEED_BYTES), self._bound(evaluations, rng)),)), None

    def solve(self, challenge: Challenge, control: SolveControl) -> Solution:
        """As ``Puzzle.solve``."""
        return solve(challenge, control)

    def check(self, challenge: Challenge, solution: Solution) -> bool:
        """As ``Puzzle.check``: one hash."""
        return challenge.puzzle == self.name and solves(challenge, solution.counters)

    def _bound(self, evaluations: float, rng: random.Random) -> int:
        if self._bits_only:
            return bits_bound(math.floor(math.log2(max(evaluations, 1.0))))
        low = math.floor(evaluations)
        return max(1, low + (rng.random() < evaluations - low))
