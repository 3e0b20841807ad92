"""Repeated squaring modulo N (Rivest, Shamir and Wagner 1996): x^(2^T), one squaring after the other.

gmpy2 is about eight times as fast as Python's ``pow``; it is used if it is installed (extra ``timelock``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib import import_module

from modeltoll.toll_records import Challenge, Part

__all__ = ["MODULUS_BYTES", "PYTHON", "Squarer", "square_repeatedly", "squarers", "time_lock_base", "time_lock_value"]

MODULUS_BYTES = 256
_BASE_LABEL = b"modeltoll timelock base v1"
_VALUE_LABEL = b"modeltoll timelock value v1"
_BLOCKS = MODULUS_BYTES // 32 + 1  # of SHA-256: one more than N has, so that x is as good as uniform below N


@dataclass(frozen=True, slots=True)
class Squarer:
    """An implementation of squaring. ``power``: (x, squarings, N) -> x^(2^squarings) mod N. ``chunk``: squarings per call."""

    name: str
    power: Callable[[int, int, int], int]
    chunk: int


PYTHON = Squarer(
    "python", lambda x, squarings, modulus: pow(x, 1 << squarings, modulus), 1 << 8
)  # about 3 ms per chunk


@cache
def squarers() -> tuple[Squarer, ...]:
    """The implementations available, the fastest first; the last is Python's ``pow``."""
    try:
        gmpy2 = import_module("gmpy2")  # optional: the extra timelock
    except ModuleNotFoundError:
        return (PYTHON,)

    def power(x: int, squarings: int, modulus: int) -> int:
        return int(gmpy2.powmod(x, gmpy2.mpz(1) << squarings, modulus))

    return (Squarer("gmpy2", power, 1 << 11), PYTHON)


def time_lock_base(seed: bytes, modulus: int) -> int:
    """x: the concatenation of SHA-256(label || seed || i), i = 0..8 as one byte, as a big-endian integer modulo N."""
    blocks = (sha256(_BASE_LABEL + seed + bytes((block,))).digest() for block in range(_BLOCKS))
    return int.from_bytes(b"".join(blocks), "big") % modulus


def time_lock_value(result: int) -> bytes:
    """F: SHA-256(label || x^(2^T) as 256 bytes, big-endian). Its halves are the check and the secret."""
    return sha256(_VALUE_LABEL + result.to_bytes(MODULUS_BYTES, "big")).digest()


def square_repeatedly(challenge: Challenge, part: Part, report: Callable[[int], None], squarer: Squarer) -> bytes:
    """F of a part, by squaring. ``report`` is called every few milliseconds with the squarings done, and may raise."""
    modulus = int.from_bytes(challenge.modulus, "big")
    x, done = time_lock_base(part.seed, modulus), 0
    while done < part.bound:
        report(done)
        count = min(squarer.chunk, part.bound - done)
        x, done = squarer.power(x, count, modulus), done + count
    return time_lock_value(x)
