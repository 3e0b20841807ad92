"""The frozen records of puzzles and of tolls: what a gateway publishes, and what a solution unlocks.

This module imports the standard library alone. Work is in reference seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from modeltoll.record_init import quick_init

__all__ = ["Challenge", "Part", "Solution", "Toll"]


@quick_init
@dataclass(frozen=True, slots=True)
class Part:
    """One independent part of a puzzle. ``seed``: 16 bytes.

    Hidden counter: the secret n lies in [0, ``bound``) and ``check`` is the first half of F(``start`` + n). Hashcash:
    the digest times ``bound`` must be below 2 to the digest's length in bits, so that ``bound`` is the expected number
    of evaluations; no ``check``. Time lock: ``bound`` is the number of squarings, ``check`` the first half of F.
    """

    seed: bytes
    bound: int
    check: bytes = b""
    start: int = 0


@quick_init
@dataclass(frozen=True, slots=True)
class Challenge:
    """A puzzle as published. ``puzzle`` is its name on the wire.

    ``memory_kib``, ``passes`` and ``lanes``: of argon2id, else 0. ``modulus``: of timelock, big-endian, else empty.
    """

    puzzle: str
    parts: tuple[Part, ...]
    memory_kib: int = 0
    passes: int = 0
    lanes: int = 0
    modulus: bytes = b""

    def __hash__(self) -> int:
        """The hash of the first seed, which is unique to a challenge."""
        return hash(self.parts[0].seed if self.parts else b"")


@quick_init
@dataclass(frozen=True, slots=True)
class Solution:
    """The solution of a challenge: one counter per part, and the secret derived from them (empty for hashcash)."""

    counters: tuple[int, ...]
    secret: bytes = field(default=b"", repr=False)


@quick_init
@dataclass(frozen=True, slots=True)
class Toll:
    """A challenge and what its solution unlocks.

    ``mode``: ``sealed`` (``payload`` is the encrypted answer) or ``redeem`` (``payload`` is a token, which the gateway
    exchanges for the answer). ``rows``: rows of the request. ``typical_seconds``: expected wait on one reference core,
    as far as disclosed. ``expires``: expiry of the token in seconds since the epoch, or None. ``admission``: the token
    holds the request instead of an answer; the gateway processes the request when the token is redeemed. ``settles``: the
    seal holds a receipt. ``redeem``, ``settle``: where to post a token and receipts, relative to the URL of the request
    that this toll is the response to; of a toll that was decoded.
    """

    mode: str
    challenge: Challenge
    payload: bytes
    rows: int
    typical_seconds: float
    expires: int | None = None
    admission: bool = False
    settles: bool = False
    redeem: str = ""
    settle: str = ""
