"""What one evaluation is, and what it means to have solved a puzzle; makers, solvers and checkers share it."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from hmac import compare_digest

from modeltoll.puzzle.argon2id import LANES, PASSES, Argon2id
from modeltoll.puzzle.hash_scan import CHECK_BYTES, DIGESTS, HASHCASH, HASHCASH_SHA1, SHA256
from modeltoll.records import Challenge, Part

__all__ = [
    "ARGON2ID",
    "COUNTERS",
    "HASHCASH",
    "HASHCASHES",
    "HASHCASH_SHA1",
    "LANES",
    "MAX_EVALUATIONS",
    "PASSES",
    "PUZZLES",
    "SECRET_BYTES",
    "SEED_BYTES",
    "SHA256",
    "TIMELOCK",
    "VALUE_BYTES",
    "check_of",
    "counter_span",
    "evaluate",
    "evaluator",
    "hashcash_digest",
    "largest_digest",
    "secret_of",
    "solves",
]

ARGON2ID, TIMELOCK = "argon2id", "timelock"
HASHCASHES = (HASHCASH, HASHCASH_SHA1)
PUZZLES = (ARGON2ID, SHA256, *HASHCASHES, TIMELOCK)
SEED_BYTES = 16
VALUE_BYTES = 32
SECRET_BYTES = VALUE_BYTES - CHECK_BYTES
MAX_EVALUATIONS = 2.0**48  # expected of one puzzle: every published bound stays exact in JSON, every counter in 8 bytes
COUNTERS = 2**64  # a counter is 8 bytes on its way into the function


def evaluator(memory_kib: int) -> Callable[[bytes, int], bytes]:
    """F, ready to be evaluated many times in one thread: (seed, counter) -> 32 bytes.

    Argon2id (RFC 9106) of the counter salted with the seed, one pass in one lane, or SHA-256(seed || counter) at 0 KiB;
    the counter enters as 8 bytes, big-endian. It raises ``argon2.exceptions.HashingError`` where the machine does not
    give the memory.
    """
    return Argon2id(memory_kib).evaluate if memory_kib else _sha256


def evaluate(seed: bytes, n: int, memory_kib: int) -> bytes:
    """F(n), once; as ``evaluator``."""
    return evaluator(memory_kib)(seed, n)


def _sha256(seed: bytes, n: int) -> bytes:
    return sha256(seed + n.to_bytes(8, "big")).digest()


def hashcash_digest(puzzle: str, seed: bytes, n: int) -> bytes:
    """The digest of a hashcash counter: SHA-256 or, of the paper's profile, SHA-1, over seed || n (8 bytes)."""
    digest: bytes = DIGESTS[puzzle](seed + n.to_bytes(8, "big")).digest()
    return digest


def check_of(value: bytes) -> bytes:
    """The first half of F(n), which is published: it confirms n and tells nothing of the other half.

    A hash of F(n) would do as well and cost the solver a second evaluation for each counter.
    """
    return value[:CHECK_BYTES]


def secret_of(value: bytes) -> bytes:
    """The second half of F(n), which is never published: what the seal's key is made from."""
    return value[CHECK_BYTES:]


def largest_digest(bound: int, puzzle: str = HASHCASH) -> bytes:
    """The largest digest, read as a big-endian integer, whose product with ``bound`` stays below 2 to its bits."""
    size: int = DIGESTS[puzzle]().digest_size
    return (((1 << 8 * size) - 1) // bound).to_bytes(size, "big")


def counter_span(challenge: Challenge, part: Part) -> int:
    """How many counters there are to try: the published bound, or all of them where any may do (hashcash)."""
    return COUNTERS if challenge.puzzle in HASHCASHES else part.bound


def solves(challenge: Challenge, counters: tuple[int, ...]) -> bool:
    """Whether there is one counter per part, each in range and confirmed by an evaluation of its own.

    Of hidden counters and hashcash; a time lock is checked by who made it.
    """
    if challenge.puzzle == TIMELOCK or len(counters) != len(challenge.parts):
        return False
    pairs = tuple(zip(challenge.parts, counters, strict=True))
    if not all(0 <= n < counter_span(challenge, part) for part, n in pairs):
        return False
    return all(_confirms(challenge, part, n) for part, n in pairs)


def _confirms(challenge: Challenge, part: Part, n: int) -> bool:
    if challenge.puzzle in HASHCASHES:
        return hashcash_digest(challenge.puzzle, part.seed, n) <= largest_digest(part.bound, challenge.puzzle)
    return compare_digest(check_of(evaluate(part.seed, part.start + n, challenge.memory_kib)), part.check)
