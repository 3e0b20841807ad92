"""The frozen records that packages exchange, and the names of the array types.

This module imports the standard library alone, so that the client does not depend on numpy. Arrays are numpy arrays;
each docstring gives their shapes, in which ``rows`` is the number of rows of one request. Times are in seconds since
the epoch, work is in reference seconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from modeltoll.record_init import quick_init

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from modeltoll.evidence_records import EvidenceState

    Bools = NDArray[np.bool_]
    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]
    Progress = Callable[[int, int], None]  # (done, total); total is 0 where it is unknown

__all__ = [
    "FINGERPRINT_BYTES",
    "GROUP_SCHEMES",
    "REASON_CHARACTERS",
    "Account",
    "Answer",
    "Assessment",
    "Caller",
    "Charge",
    "DailyQuota",
    "DailyUsage",
    "Evidence",
    "Leaks",
    "LogEntry",
    "MachineProfile",
    "Work",
]

FINGERPRINT_BYTES = 8  # of a row in a charge
REASON_CHARACTERS = 256  # of ``LogEntry.reason``, at most
GROUP_SCHEMES = ("org:", "prefix:")  # a group's name begins with one of these


@quick_init
@dataclass(frozen=True, slots=True)
class Answer:
    """A response of the upstream: HTTP status, content type, and the body byte for byte.

    ``headers`` are those that are passed on beside it, in small letters; they are never sealed, and must tell nothing of it.
    """

    status: int
    content_type: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class DailyQuota:
    """Limits of one caller per UTC day, None for no limit. The request that reaches ``work`` (s) is still covered."""

    rows: int | None = None
    work: float | None = None

    def covers(self, used: DailyUsage, rows: int) -> bool:
        """Whether a request of ``rows`` rows is within the quota after ``used`` of the same day."""
        return (self.rows is None or used.rows + rows <= self.rows) and (self.work is None or used.work < self.work)


@quick_init
@dataclass(frozen=True, slots=True)
class DailyUsage:
    """What a caller used on one day: rows, and work in reference seconds. ``day`` counts UTC days from the epoch."""

    day: int
    rows: int = 0
    work: float = 0.0


@quick_init
@dataclass(frozen=True, slots=True)
class Caller:
    """The sender of a request. ``name`` is stable and unique: ``key:alice``, ``jwt:alice``, or without a key
    ``net:198.51.100.7`` and, of IPv6, ``net:2001:db8:1:2::/64``.

    ``groups``: names of the accounts that the caller shares with others, ``org:acme`` or ``prefix:198.51.100.0/24``.
    ``exempt``: answers are free. ``discount``: the fraction, 0 to 1, taken off the price of the rows while the caller
    is not under suspicion. ``markup``: a multiplier of 1 or more on that price at all times.
    """

    name: str
    exempt: bool = False
    groups: tuple[str, ...] = ()
    discount: float = 0.0
    markup: float = 1.0
    quota: DailyQuota | None = None

    @property
    def anonymous(self) -> bool:
        return self.name.startswith("net:")

    @property
    def is_group(self) -> bool:
        return self.name.startswith(GROUP_SCHEMES)


@quick_init
@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What leak measures may read of one request and its answer.

    ``fingerprints``: one hash per row; equal inputs have equal fingerprints. ``scores``: probabilities,
    shape (rows, classes). ``inputs``: shape (rows, dimensions). ``tokens``: for each row of generated text the
    probabilities that the upstream reports, shape (tokens, alternatives). ``scores_checked``: ``leak.scores.check_scores``
    has returned the scores, none of which is missing; they are not checked again.
    """

    fingerprints: tuple[bytes, ...]
    scores: Floats | None = None
    inputs: Floats | None = None
    tokens: tuple[Floats, ...] | None = None
    scores_checked: bool = False

    @property
    def rows(self) -> int:
        return len(self.fingerprints)


@quick_init
@dataclass(frozen=True, slots=True, eq=False)
class Leaks:
    """The leaks of one answer: ``values`` of shape (rows, measures), finite, >= 0, each in its measure's unit.

    ``classes`` (rows,): the predicted class of each row; None where the answer has no scores.
    """

    measures: tuple[str, ...]
    values: Floats
    classes: Integers | None = None

    def rows(self, places: Integers | Bools) -> Leaks:
        """The leaks of some of the rows, by their places or where True."""
        return Leaks(self.measures, self.values[places], None if self.classes is None else self.classes[places])


@quick_init
@dataclass(frozen=True, slots=True, eq=False)
class Assessment:
    """A tariff's assessment of the rows of one request, independent of the caller.

    ``factors`` (rows,): price of each row in units. ``rarest`` (rows,): smallest p-value of each row over the measures.
    ``cells`` (rows,): the cell of the smoothed p-values, which the ledger counts; all 0 where the tariff has no cells.
    ``leaks``: what was assessed.
    """

    factors: Floats
    rarest: Floats
    cells: Integers
    leaks: Leaks


@quick_init
@dataclass(frozen=True, slots=True)
class Charge:
    """What one request adds to the accounts of its caller, in one atomic step.

    ``leaks``: sum over the rows, per measure. ``cells``: the cell of each row, below ``cell_count``; empty where that is 0. A
    row counts in a cell only if the account has not seen its fingerprint before. ``tariff``: identity of the tariff; the
    evidence and leaks of an account of another tariff restart from zero. ``at``: seconds since the epoch.
    """

    model: str
    rows: int
    leaks: tuple[float, ...]
    cells: tuple[int, ...]
    fingerprints: tuple[bytes, ...]
    cell_count: int
    tariff: str
    at: float


@quick_init
@dataclass(frozen=True, slots=True)
class Account:
    """The ledger's state of one caller of one model.

    ``evidence``: counts of its fresh rows. ``rows``, ``requests``, ``leaks`` (per measure) and ``work`` (reference seconds
    issued) are totals. ``first_seen``, ``last_seen``: seconds since the epoch. ``groups``: the accounts of the caller's
    groups in the order of ``caller.groups``, each over all callers of the group; their ``work`` stays 0. ``settled_rows``:
    rows of the caller whose tolls were paid; from ``Admission``, not stored with the account.
    """

    caller: Caller
    model: str
    rows: int
    requests: int
    leaks: tuple[float, ...]
    evidence: EvidenceState
    work: float
    tariff: str
    first_seen: float
    last_seen: float
    groups: tuple[Account, ...] = ()
    settled_rows: int = 0

    def with_settled_rows(self, rows: int) -> Account:
        """The same with another number of settled rows. ``dataclasses.replace`` takes several times as long."""
        return Account(
            self.caller, self.model, self.rows, self.requests, self.leaks, self.evidence, self.work, self.tariff,
            self.first_seen, self.last_seen, self.groups, rows,
        )  # fmt: skip

    def with_work(self, work: float) -> Account:
        """The same with another number of seconds issued."""
        return Account(
            self.caller, self.model, self.rows, self.requests, self.leaks, self.evidence, work, self.tariff,
            self.first_seen, self.last_seen, self.groups, self.settled_rows,
        )  # fmt: skip


@quick_init
@dataclass(frozen=True, slots=True)
class Work:
    """The price of one request, in expected reference seconds.

    ``seconds`` = ``rows_seconds`` + ``new_account_seconds``. ``surcharge``: the multiplier (>= 1) on rare rows of a
    caller under suspicion. ``group_surcharge``: the same for a group under suspicion, on rarer rows. ``rows_seconds``
    already includes the larger of the two and the caller's markup and discount.
    """

    seconds: float
    rows: int
    rows_seconds: float
    new_account_seconds: float = 0.0
    surcharge: float = 1.0
    group_surcharge: float = 1.0

    @property
    def suspected(self) -> bool:
        """Whether the caller itself, and not only a group of it, was under suspicion at the time of pricing."""
        return self.surcharge > 1.0


@quick_init
@dataclass(frozen=True, slots=True)
class LogEntry:
    """One line of the ledger's append-only log. The ledger adds the caller's hash; inputs and answers are not stored.

    ``at``: seconds since the epoch. ``leaks``: shape (rows, measures). ``rarest``: smallest p-value of each row.
    ``mode``: ``sealed``, ``redeem``, ``shadow``, ``exempt``, ``free`` or ``prepaid``. ``classes``: the predicted class of
    each row; empty where the answer has no scores. In shadow mode ``measures`` also has those fitted without kinds.
    ``reason``: why the request was answered without being measured, ``KIND: text`` of at most 256 characters (shadow mode);
    its ``measures`` and ``leaks`` are empty then. Empty where it was measured.
    """

    at: float
    model: str
    rows: int
    measures: tuple[str, ...]
    leaks: tuple[tuple[float, ...], ...]
    rarest: tuple[float, ...]
    work: Work
    mode: str
    classes: tuple[int, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class MachineProfile:
    """Evaluations per second of one core of a named machine. The profile in use defines the reference second.

    ``sha256``: hashes of hashlib, for hidden counters and hashcash. ``argon2id``: by memory in KiB, one pass and one
    lane. ``squarings``: of Python's ``pow`` modulo 2048 bits, 0 where not measured. All are rates of an installation
    without native kernels; a faster installation waits less. ``source``: how the rates were measured.
    """

    name: str
    source: str
    sha256: float
    argon2id: Mapping[int, float] = field(default_factory=dict)
    squarings: float = 0.0

    def rate(self, memory_kib: int) -> float:
        """Evaluations per second of one core: Argon2id with that memory, SHA-256 where ``memory_kib`` is 0.

        For a memory that was not measured, the rate at the nearest one (in ratio) is scaled by the ratio.
        """
        if memory_kib == 0:
            return self.sha256
        if memory_kib in self.argon2id:
            return self.argon2id[memory_kib]
        nearest = min(self.argon2id, key=lambda kib: abs(math.log(kib / memory_kib)))
        return self.argon2id[nearest] * nearest / memory_kib
