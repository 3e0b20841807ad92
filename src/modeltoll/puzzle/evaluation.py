"""What one evaluation is, and what it means to have solved a puzzle; makers, solvers and checkers share it."""

from __future__ import annotations

from hashlib import sha256
from hmac import compare_digest

from argon2.low_level import Type, hash_secret_raw

from modeltoll.puzzle.scan import CHECK_BYTES, HASHCASH, SHA256
from modeltoll.records import Challenge, Part

__all__ = [
    "ARGON2ID",
    "COUNTERS",
    "HASHCASH",
    "LANES",
    "MAX_EVALUATIONS",
    "PASSES",
    "PUZZLES",
    "SECRET_BYTES",
    "SEED_BYTES",
    "SHA256",
    "VALUE_BYTES",
    "check_of",
    "evaluate",
    "largest_digest",
    "secret_of",
    "solves",
    "span",
]

ARGON2ID = "argon2id"
PUZZLES = (ARGON2ID, SHA256, HASHCASH)
SEED_BYTES = 16
VALUE_BYTES = 32
SECRET_BYTES = VALUE_BYTES - CHECK_BYTES
PASSES, LANES = 1, 1  # of argon2id
MAX_EVALUATIONS = 2.0**48  # expected of one puzzle: every published bound stays exact in JSON, every counter in 8 bytes
COUNTERS = 2**64  # a counter is 8 bytes on its way into the function


def evaluate(seed: bytes, n: int, memory_kib: int) -> bytes:
    """F(n), 32 bytes: Argon2id (RFC 9106) of the counter salted with the seed, or SHA-256(seed || n) at 0 KiB.

    The counter enters as 8 bytes, big-endian; Argon2id runs one pass in one lane.

    Raises:
        argon2.exceptions.HashingError: the machine does not give the memory.
    """
    counter = n.to_bytes(8, "big")
    if memory_kib == 0:
        return sha256(seed + counter).digest()
    return hash_secret_raw(counter, seed, PASSES, memory_kib, LANES, VALUE_BYTES, Type.ID)


def check_of(value: bytes) -> bytes:
    """The first half of F(n), which is published: it confirms n and tells nothing of the other half.

    A hash of F(n) would do as well and cost the solver a second evaluation for each counter.
    """
    return value[:CHECK_BYTES]


def secret_of(value: bytes) -> bytes:
    """The second half of F(n), which is never published: what the seal's key is made from."""
    return value[CHECK_BYTES:]


def largest_digest(bound: int) -> bytes:
    """The largest 32-byte digest, read as a big-endian integer, whose product with ``bound`` stays below 2^256."""
    return ((2**256 - 1) // bound).to_bytes(VALUE_BYTES, "big")


def span(challenge: Challenge, part: Part) -> int:
    """How many counters there are to try: the published bound, or all of them where any may do (hashcash)."""
    return COUNTERS if challenge.puzzle == HASHCASH else part.bound


def solves(challenge: Challenge, counters: tuple[int, ...]) -> bool:
    """Whether there is one counter per part, each in range and confirmed by an evaluation of its own."""
    if len(counters) != len(challenge.parts):
        return False
    pairs = tuple(zip(challenge.parts, counters, strict=True))
    if not all(0 <= n < span(challenge, part) for part, n in pairs):
        return False
    return all(_confirms(challenge, part, evaluate(part.seed, n, challenge.memory_kib)) for part, n in pairs)


def _confirms(challenge: Challenge, part: Part, value: bytes) -> bool:
    if challenge.puzzle == HASHCASH:
        return value <= largest_digest(part.bound)
    return compare_digest(check_of(value), part.check)
