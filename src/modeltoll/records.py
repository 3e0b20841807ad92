"""The frozen values that pass between rooms.

Importing this module needs nothing but the standard library, so that a client never reaches numpy.
Arrays are numpy arrays; their shapes stand beside them, with ``rows`` the rows of one request.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    Bools = NDArray[np.bool_]
    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]
    Progress = Callable[[int, int], None]  # hears how much is done and how much there is, 0 where nobody knows

__all__ = [
    "GROUP_SCHEMES",
    "READINESS_PROBE",
    "Account",
    "Answer",
    "Assessment",
    "Caller",
    "Challenge",
    "Charge",
    "DailyQuota",
    "DailyUsage",
    "Evidence",
    "Leaks",
    "LogEntry",
    "MachineProfile",
    "Part",
    "Solution",
    "Toll",
    "Work",
]

GROUP_SCHEMES = ("org:", "prefix:")  # how the names of groups begin


@dataclass(frozen=True, slots=True)
class Answer:
    """What the upstream said, byte for byte."""

    status: int
    content_type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class DailyQuota:
    """What a caller may have in a day; None for no limit. ``work``, in reference seconds, ends with what reaches it."""

    rows: int | None = None
    work: float | None = None

    def covers(self, spent: DailyUsage, rows: int) -> bool:
        return (self.rows is None or spent.rows + rows <= self.rows) and (self.work is None or spent.work < self.work)


@dataclass(frozen=True, slots=True)
class DailyUsage:
    """What a caller has had of a day, counted from the epoch in UTC: rows, and reference seconds of work."""

    day: int
    rows: int = 0
    work: float = 0.0


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is asking. ``name`` is stable and unique: ``key:alice``, ``jwt:alice`` or ``net:198.51.100.0/24``.

    ``groups`` names the accounts that he shares with others: ``org:acme`` or ``prefix:198.51.0.0/16``. ``discount`` is
    the part of the price of his rows, 0 to 1, that he is let off while not under suspicion; ``markup``, 1 or more,
    multiplies that price at all times.
    """

    name: str
    exempt: bool = False
    groups: tuple[str, ...] = ()
    discount: float = 0.0
    markup: float = 1.0
    allowance: DailyQuota | None = None

    @property
    def anonymous(self) -> bool:
        """Whether only a network prefix is known of the caller."""
        return self.name.startswith("net:")

    @property
    def is_group(self) -> bool:
        """Whether the name is that of a group, whose account its callers share."""
        return self.name.startswith(GROUP_SCHEMES)


READINESS_PROBE = Caller("readiness")  # of whom a ledger is asked to see whether it answers; never charged


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What a measure may look at: one request's inputs and what its answer shows of the model.

    ``scores`` are probabilities, shape (rows, classes); ``inputs`` have shape (rows, dimensions).
    ``fingerprints`` are one hash of 8 bytes per row: the same input has the same fingerprint. ``tokens`` holds for each
    row of generated text the probabilities that are known of each token, shape (tokens, shown).
    """

    fingerprints: tuple[bytes, ...]
    scores: Floats | None = None
    inputs: Floats | None = None
    tokens: tuple[Floats, ...] | None = None

    @property
    def rows(self) -> int:
        """How many rows the request carries."""
        return len(self.fingerprints)


@dataclass(frozen=True, slots=True, eq=False)
class Leaks:
    """What an answer gives away: ``values`` of shape (rows, measures), finite, >= 0, in each measure's own unit."""

    measures: tuple[str, ...]
    values: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Assessment:
    """A tariff's reading of one request, without regard to who asks.

    ``factors`` (rows,): price of each row in units. ``rarest`` (rows,): each row's smallest p-value.
    ``bins`` (rows, measures): the histogram bin of each smoothed p-value, the evidence for the ledger.
    """

    factors: Floats
    rarest: Floats
    bins: Integers


@dataclass(frozen=True, slots=True)
class Charge:
    """What one request writes into the ledger, in one atomic step.

    ``leaks`` sums each measure over the rows. ``bins`` holds, per row, one bin per measure; a row whose
    fingerprint this caller has sent before (or that occurs twice in the request) is not counted a second time.
    ``shape`` is (measures, bins) of the histogram of the tariff called ``tariff``; an account that was kept under
    another tariff starts its counts and leaks anew.
    ``at`` is in seconds since the epoch.
    """

    model: str
    rows: int
    leaks: tuple[float, ...]
    bins: tuple[tuple[int, ...], ...]
    fingerprints: tuple[bytes, ...]
    shape: tuple[int, int]
    tariff: str
    at: float


@dataclass(frozen=True, slots=True)
class Account:
    """What the ledger knows of a caller of one model, after the charge.

    ``counts`` (measures, bins) are p-value counts faded by age; ``rows``, ``requests``, ``leaks`` and ``work``
    (reference seconds issued) are totals that never fade. Times are in seconds since the epoch. ``shared`` are the
    accounts of the caller's groups, in their order: what all of their callers did, counted as one; no work is theirs.
    """

    caller: Caller
    model: str
    rows: int
    requests: int
    leaks: tuple[float, ...]
    counts: tuple[tuple[float, ...], ...]
    work: float
    tariff: str
    first_seen: float
    last_seen: float
    shared: tuple[Account, ...] = ()


@dataclass(frozen=True, slots=True)
class Work:
    """What one request costs, in expected reference seconds, and how that came about.

    ``seconds`` = ``rows_seconds`` + ``entry_seconds``. ``surcharge`` is the multiplier (>= 1) that suspicion of the
    caller put on the rare rows, ``group_surcharge`` the one that suspicion of his groups put on the rarest; the larger
    of them is already inside ``rows_seconds``, and so are the caller's markup and discount.
    """

    seconds: float
    rows: int
    rows_seconds: float
    entry_seconds: float = 0.0
    surcharge: float = 1.0
    group_surcharge: float = 1.0

    @property
    def suspected(self) -> bool:
        """Whether the caller himself, not only a group of his, was under suspicion when this was priced."""
        return self.surcharge > 1.0


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One line of the ledger's append-only log; ``caller`` is hashed by the ledger, payloads never reach it.

    ``leaks`` has shape (rows, measures). ``mode`` is ``sealed``, ``redeem``, ``shadow``, ``exempt`` or ``free``.
    """

    at: float
    model: str
    rows: int
    measures: tuple[str, ...]
    leaks: tuple[tuple[float, ...], ...]
    rarest: tuple[float, ...]
    work: Work
    mode: str


@dataclass(frozen=True, slots=True)
class MachineProfile:
    """Evaluations per second of one core of a named machine: the meaning of a reference second.

    ``sha256`` is one hash of hashlib each (hidden counters and hashcash alike), ``argon2id`` maps memory in KiB (one
    pass, one lane) to evaluations, ``squarings`` are those of Python's ``pow`` modulo 2048 bits, 0 where not measured:
    a plain install is the reference, and who has a faster one waits less. ``source`` says how it was measured.
    """

    name: str
    source: str
    sha256: float
    argon2id: Mapping[int, float] = field(default_factory=dict)
    squarings: float = 0.0

    def rate(self, memory_kib: int) -> float:
        """Evaluations per second of one core: of argon2id at that memory, or of SHA-256 where it is 0.

        Between and beyond the measured rungs the rate of the nearest rung is scaled by the memory.
        """
        if memory_kib == 0:
            return self.sha256
        rung = min(self.argon2id, key=lambda kib: abs(math.log(kib / memory_kib)))
        return self.argon2id[rung] * rung / memory_kib


@dataclass(frozen=True, slots=True)
class Part:
    """One independent part of a puzzle.

    Hidden counter: the secret n lies in [0, ``bound``); ``check`` confirms F(``start`` + n). Hashcash: a digest times
    ``bound`` must stay below 2 to the digest's length in bits, so ``bound`` is the expected number of evaluations; no
    ``check``. Time lock: ``bound`` is the number of squarings.
    """

    seed: bytes
    bound: int
    check: bytes = b""
    start: int = 0


@dataclass(frozen=True, slots=True)
class Challenge:
    """A puzzle as published. ``memory_kib``, ``passes`` and ``lanes`` belong to argon2id and are 0 elsewhere;
    ``modulus`` (big-endian) belongs to timelock and is empty elsewhere."""

    puzzle: str
    parts: tuple[Part, ...]
    memory_kib: int = 0
    passes: int = 0
    lanes: int = 0
    modulus: bytes = b""

    def __hash__(self) -> int:
        """Of the first seed, which no other challenge has."""
        return hash(self.parts[0].seed if self.parts else b"")


@dataclass(frozen=True, slots=True)
class Solution:
    """What solves a challenge: one counter per part, and the secret that the counters unlock (empty for hashcash)."""

    counters: tuple[int, ...]
    secret: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Toll:
    """A challenge with the answer it seals.

    ``mode`` is ``sealed`` (``cargo`` opens with the solution) or ``redeem`` (``cargo`` is a token that the gateway
    exchanges for the answer). ``typical_seconds`` is the expected wait on one reference core, as far as disclosed.
    ``expires`` says when the token does, in seconds since the epoch; None where nothing expires, or it is not said.
    An ``entry`` toll buys no answer yet: its token holds the request, which is dealt with when it is redeemed.
    """

    mode: str
    challenge: Challenge
    cargo: bytes
    rows: int
    typical_seconds: float
    expires: int | None = None
    entry: bool = False
