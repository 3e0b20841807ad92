"""The function F of each puzzle, and the definition of a valid solution; used for making, solving and checking."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from hmac import compare_digest
from threading import local

from modeltoll.names import ARGON2ID, HASHCASH, HASHCASH_SHA1, HASHCASHES, PUZZLES, SHA256, TIMELOCK
from modeltoll.puzzle.argon2id import LANES, PASSES, REUSED_KIB, Argon2id
from modeltoll.puzzle.hash_scan import DIGESTS
from modeltoll.puzzle.native_argon2id import NativeArgon2id, argon2id_kernels
from modeltoll.toll_records import Challenge, Part

__all__ = [
    "ARGON2ID",
    "CHECK_BYTES",
    "COUNTERS",
    "DIGEST_NAMES",
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
    "argon2id",
    "check_of",
    "counter_span",
    "digest_range",
    "evaluate",
    "evaluator",
    "hashcash_digest",
    "kept_evaluator",
    "largest_digest",
    "secret_of",
    "solves",
]

SEED_BYTES = 16
VALUE_BYTES = 32
CHECK_BYTES = 16  # of the half of F(n) that is published
SECRET_BYTES = VALUE_BYTES - CHECK_BYTES
MAX_EVALUATIONS = 2.0**48  # expected of one puzzle; published bounds stay exact in JSON, counters fit into 8 bytes
COUNTERS = 2**64  # number of counters: they are 8 bytes
DIGEST_NAMES = {SHA256: "sha256", HASHCASH: "sha256", HASHCASH_SHA1: "sha1"}  # the hash function of a puzzle
_MOST_KEPT_KIB = 4 * 1024  # of the evaluators that a thread keeps, together
_AFTER_CHECK = b"\xff" * SECRET_BYTES  # the largest half of F(n) that is not published


class _KeptEvaluators(local):
    """Of each thread, its evaluators by their memory in KiB."""

    def __init__(self) -> None:
        self.by_memory: dict[int, Callable[[bytes, int], bytes]] = {}


_kept = _KeptEvaluators()


def evaluator(memory_kib: int) -> Callable[[bytes, int], bytes]:
    """F as a function (seed, counter) -> 32 bytes, for many evaluations in one thread.

    Argon2id (RFC 9106) of the counter with the seed as salt, one pass in one lane; SHA-256(seed || counter) if
    ``memory_kib`` is 0. The counter is 8 bytes, big-endian.

    Raises:
        argon2.exceptions.HashingError: the memory cannot be allocated, now or in an evaluation.
    """
    return argon2id(memory_kib, paired=False).evaluate if memory_kib else _sha256


def kept_evaluator(memory_kib: int) -> Callable[[bytes, int], bytes]:
    """As ``evaluator``, for a few evaluations now and then.

    The memory, if it is below ``REUSED_KIB``, is kept for the next evaluations in this thread: to get it from the system
    again takes as long as an evaluation.
    """
    if not 0 < memory_kib < REUSED_KIB:
        return evaluator(memory_kib)
    kept = _kept.by_memory
    if memory_kib not in kept and sum(kept) + memory_kib > _MOST_KEPT_KIB:
        kept.clear()
    return kept.get(memory_kib) or kept.setdefault(memory_kib, evaluator(memory_kib))


def argon2id(memory_kib: int, *, native: bool = True, paired: bool = True) -> Argon2id | NativeArgon2id:
    """Argon2id by the fastest native kernel, or by argon2-cffi, for many evaluations in one thread.

    ``native``: False for argon2-cffi even where there are kernels. ``paired``: see ``NativeArgon2id``.

    Raises:
        argon2.exceptions.HashingError: the memory cannot be allocated.
    """
    names = argon2id_kernels() if native else ()
    return NativeArgon2id(memory_kib, names[0], paired=paired) if names else Argon2id(memory_kib)


def evaluate(seed: bytes, n: int, memory_kib: int) -> bytes:
    """A single evaluation of F(n); see ``evaluator``."""
    return kept_evaluator(memory_kib)(seed, n)


def _sha256(seed: bytes, n: int) -> bytes:
    return sha256(seed + n.to_bytes(8, "big")).digest()


def hashcash_digest(puzzle: str, seed: bytes, n: int) -> bytes:
    """The digest of a hashcash counter: SHA-256, or SHA-1 for the paper's profile, of seed || n (8 bytes, big-endian)."""
    digest: bytes = DIGESTS[DIGEST_NAMES[puzzle]](seed + n.to_bytes(8, "big")).digest()
    return digest


def check_of(value: bytes) -> bytes:
    """The first half of F(n), which is published. It confirms n and reveals nothing about the other half.

    A hash of F(n) would serve as well, but would cost the solver a second evaluation per counter.
    """
    return value[:CHECK_BYTES]


def secret_of(value: bytes) -> bytes:
    """The second half of F(n), which is secret: the input of the seal's key derivation."""
    return value[CHECK_BYTES:]


def largest_digest(bound: int, puzzle: str = HASHCASH) -> bytes:
    """The largest digest, as a big-endian integer, whose product with ``bound`` is below 2 to the digest's bits."""
    size: int = DIGESTS[DIGEST_NAMES[puzzle]]().digest_size
    return (((1 << 8 * size) - 1) // bound).to_bytes(size, "big")


def digest_range(challenge: Challenge, part: Part) -> tuple[bytes, bytes]:
    """The least and the largest digest that solve a part of a sha256 or hashcash puzzle, both included.

    Of hashcash everything up to the largest digest; of a hidden counter what begins with the published check.
    """
    if challenge.puzzle in HASHCASHES:
        return b"", largest_digest(part.bound, challenge.puzzle)
    return part.check, part.check + _AFTER_CHECK


def counter_span(challenge: Challenge, part: Part) -> int:
    """The number of counters to try: the published bound, or all 2^64 for hashcash."""
    return COUNTERS if challenge.puzzle in HASHCASHES else part.bound


def solves(challenge: Challenge, counters: tuple[int, ...]) -> bool:
    """Whether there is one counter per part, each in range and confirmed by an evaluation.

    For hidden counters and hashcash; False for a time lock, which only its ``Trapdoor`` can check.
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
