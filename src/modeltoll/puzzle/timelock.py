"""Time locks: x^(2^T) mod N, which only the owner of the factors of N can compute faster (Rivest et al. 1996).

The wait is known in advance and does not depend on the number of cores: it limits latency, not throughput. A thief can
work on many locks in parallel, so time locks are used only if the operator enables them. A time lock cannot hide its
work, because T is published. Its counter is known to everybody; what opens a seal or redeems a token is F of the result.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from hmac import compare_digest
from typing import TYPE_CHECKING, ClassVar

from cryptography.hazmat.primitives.asymmetric import rsa

from modeltoll.puzzle.functions import MAX_EVALUATIONS, SEED_BYTES, TIMELOCK, check_of, secret_of
from modeltoll.puzzle.puzzle import SolveControl
from modeltoll.puzzle.solver import solve
from modeltoll.puzzle.squaring import MODULUS_BYTES, time_lock_base, time_lock_value
from modeltoll.records import MachineProfile, Work
from modeltoll.toll_records import Challenge, Part, Solution

if TYPE_CHECKING:
    import random

__all__ = ["TimeLock", "Trapdoor"]

_MAKING_SQUARINGS = 700  # that take as long as the two powers of half the modulus's size with which a lock is made


@dataclass(frozen=True, slots=True)
class Trapdoor:
    """The two prime factors of a modulus of 2048 bits, which open every lock made with it.

    One trapdoor serves any number of locks; it is not stored and ends with its process.

    Raises:
        ValueError: the product of the primes does not have 2048 bits, or they are equal.
    """

    p: int = field(repr=False)
    q: int = field(repr=False)

    def __post_init__(self) -> None:
        if (self.p * self.q).bit_length() != 8 * MODULUS_BYTES or self.p == self.q:
            raise ValueError("the two primes do not make a modulus of 2048 bits")

    @classmethod
    def generate(cls) -> Trapdoor:
        """A random trapdoor from the system's generator; takes 50 to 500 ms."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=8 * MODULUS_BYTES).private_numbers()
        return cls(key.p, key.q)

    @property
    def modulus(self) -> int:
        """N, which is published."""
        return self.p * self.q

    def power(self, x: int, squarings: int) -> int:
        """x^(2^squarings) mod N, by exponents reduced modulo p - 1 and q - 1 (Fermat) and recombination (Garner)."""
        at_p, at_q = (pow(x % prime, pow(2, squarings, prime - 1), prime) for prime in (self.p, self.q))
        return at_q + self.q * ((at_p - at_q) * pow(self.q, -1, self.p) % self.p)


class TimeLock:
    """Repeated squaring. The number of squarings is the exact work, rounded up or down at random.

    Raises:
        ValueError: the profile has no rate of squarings.
    """

    name: ClassVar[str] = TIMELOCK

    def __init__(self, profile: MachineProfile, trapdoor: Trapdoor) -> None:
        if profile.squarings <= 0:
            raise ValueError(f"the machine profile {profile.name!r} has no squarings; make a new one")
        self._rate = profile.squarings
        self._trapdoor = trapdoor
        self._modulus = trapdoor.modulus.to_bytes(MODULUS_BYTES, "big")

    def within(self, memory_kib: int) -> TimeLock:  # noqa: ARG002  it needs no memory
        """As ``Puzzle.within``."""
        return self

    def making_seconds(self, work: Work) -> float:  # noqa: ARG002  whatever the work
        """As ``Puzzle.making_seconds``."""
        return _MAKING_SQUARINGS / self._rate

    def make(self, work: Work, rng: random.Random) -> tuple[Challenge, Solution]:
        """As ``Puzzle.make``: two 1024-bit powers, independent of the work. Work below one squaring is raised to one."""
        exact = work.seconds * self._rate
        if not 0 <= exact <= MAX_EVALUATIONS:
            raise ValueError(f"a puzzle cannot have work of {work.seconds} seconds")
        low = math.floor(exact)
        squarings = max(1, low + (rng.random() < exact - low))
        seed = rng.randbytes(SEED_BYTES)
        value = self._value(seed, squarings)
        part = Part(seed, squarings, check_of(value))
        return Challenge(self.name, (part,), modulus=self._modulus), Solution((squarings - 1,), secret_of(value))

    def solve(self, challenge: Challenge, control: SolveControl) -> Solution:
        """As ``Puzzle.solve``, on one core; more do not help."""
        return solve(challenge, control)

    def check(self, challenge: Challenge, solution: Solution) -> bool:
        """As ``Puzzle.check``, for locks made with the same trapdoor; the counter is the index of the last squaring."""
        if challenge.puzzle != self.name or challenge.modulus != self._modulus or len(challenge.parts) != 1:
            return False
        (part,) = challenge.parts
        if solution.counters != (part.bound - 1,):
            return False
        return compare_digest(secret_of(self._value(part.seed, part.bound)), solution.secret)

    def _value(self, seed: bytes, squarings: int) -> bytes:
        trapdoor = self._trapdoor
        return time_lock_value(trapdoor.power(time_lock_base(seed, trapdoor.modulus), squarings))
