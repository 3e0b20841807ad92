"""The arithmetic of accounts: pure functions that every ledger implementation follows.

For each account a ledger stores an ``Account`` and a sketch, the set of the latest fingerprints. In one atomic step it
reads them, calls ``charge`` and writes the result. Nothing here waits, draws random numbers or reads a clock. The
account of a group is like any other, with its own sketch; a charge of one of its callers changes it in the same step.
``evidence_math`` has the arithmetic of an account's evidence.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from hashlib import blake2b
from itertools import chain
from typing import TYPE_CHECKING

from modeltoll.evidence_records import EvidenceState
from modeltoll.ledger import evidence_math
from modeltoll.records import FINGERPRINT_BYTES, GROUP_SCHEMES, REASON_CHARACTERS, Account, Caller, DailyUsage

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Sequence

    from modeltoll.evidence_records import EvidenceUpdate
    from modeltoll.records import Charge, DailyQuota, LogEntry

__all__ = [
    "SKETCH_SIZE",
    "affected_accounts",
    "charge",
    "check_charge",
    "check_log_entry",
    "check_names",
    "check_updates",
    "check_usage",
    "derived_key",
    "hashed_name",
    "sketch_slots",
    "spend",
    "updated",
    "usage_on",
    "with_groups",
]

SKETCH_SIZE = 4096  # number of latest distinct fingerprints in an account's sketch
_MAX_CLASS = 2**31 - 1  # of a row in the log


def check_names(caller: Caller, model: str) -> None:
    """Validate names, so that every ledger can store them.

    Raises:
        ValueError: a name is empty, contains a NUL, or is not Unicode text; a group's name does not begin as such, or
            occurs twice.
    """
    for name in (caller.name, *caller.groups, model):
        if not name or "\0" in name:
            raise ValueError("callers and models need names, without a NUL in them")
        name.encode()  # a lone surrogate raises UnicodeEncodeError, which is a ValueError
    if not caller.groups:
        return
    names = {caller.name, *caller.groups}
    if not all(group.is_group for group in affected_accounts(caller)[1:]) or len(names) <= len(caller.groups):
        raise ValueError(f"the name of a group must begin with {' or '.join(GROUP_SCHEMES)}, and occur once")


def affected_accounts(caller: Caller) -> tuple[Caller, ...]:
    """The owners of the accounts that a charge of this caller changes: the caller first, then its groups."""
    return (caller, *map(Caller, caller.groups)) if caller.groups else (caller,)


def with_groups(own: Account, groups: Iterable[Account | None]) -> Account:
    """The caller's account with those accounts of its groups that exist."""
    existing = tuple([account for account in groups if account is not None])
    return replace(own, groups=existing) if existing else own


def check_charge(caller: Caller, charge: Charge) -> None:
    """Validate a charge.

    Raises:
        ValueError: an invalid name, inconsistent numbers of rows, a cell that is not below ``cell_count``, a fingerprint
            that is not of 8 bytes, a negative leak, or a number that is not finite.
    """
    check_names(caller, charge.model)
    if charge.rows != len(charge.fingerprints):
        raise ValueError("a charge needs one fingerprint for each of its rows")
    if len(charge.cells) != (charge.rows if charge.cell_count else 0):
        raise ValueError("a charge needs one cell for each of its rows, or none where its tariff has no cells")
    if charge.cell_count < 0 or (
        charge.cells and not (min(charge.cells) >= 0 and max(charge.cells) < charge.cell_count)
    ):
        raise ValueError(f"the cell of a row must be from 0 up and below {charge.cell_count}")
    if any(len(fingerprint) != FINGERPRINT_BYTES for fingerprint in charge.fingerprints):
        raise ValueError(f"a fingerprint has {FINGERPRINT_BYTES} bytes")
    if not math.isfinite(charge.at) or any(not 0.0 <= leak < math.inf for leak in charge.leaks):
        raise ValueError("the time and the leaks of a charge must be finite, and leaks not negative")


def check_log_entry(caller: Caller, entry: LogEntry) -> None:
    """Validate an entry of the log.

    Raises:
        ValueError: an invalid name, negative work, a number that is not finite, a reason that is too long, rows of different numbers of leaks, or
            classes that are not one for each row, from 0 to 2**31 - 1.
    """
    check_names(caller, entry.model)
    work = entry.work
    numbers = (
        entry.at,
        work.seconds,
        work.rows_seconds,
        work.new_account_seconds,
        work.surcharge,
        work.group_surcharge,
    )
    if not all(map(math.isfinite, chain(numbers, entry.rarest, chain.from_iterable(entry.leaks)))):
        raise ValueError("the numbers of a log entry must be finite")
    if work.seconds < 0.0:
        raise ValueError("the work of a log entry must not be negative")
    if len(set(map(len, entry.leaks))) > 1:
        raise ValueError("every row of a log entry needs as many leaks as the others")
    if len(entry.reason) > REASON_CHARACTERS:
        raise ValueError(f"the reason of a log entry has at most {REASON_CHARACTERS} characters")
    if entry.classes and len(entry.classes) != entry.rows:
        raise ValueError("a log entry needs one class for each of its rows, or none")
    if entry.classes and not (min(entry.classes) >= 0 and max(entry.classes) <= _MAX_CLASS):
        raise ValueError("the classes of a log entry must be from 0 to 2**31 - 1")


def check_updates(caller: Caller, updates: Sequence[EvidenceUpdate]) -> None:
    """Validate the updates of a bill. Raises ``ValueError`` as ``evidence_math.check_updates`` does."""
    if updates:
        evidence_math.check_updates((caller.name, *caller.groups), updates)


def charge(
    before: Account | None, caller: Caller, charge: Charge, seen: Container[bytes], period: float
) -> tuple[Account, tuple[bytes, ...]]:
    """The account after a valid charge, and the fingerprints to add to its sketch, oldest first.

    ``before``: the account, None if new. ``seen``: those of the charge's fingerprints that are in the account's sketch.
    ``period``: seconds after which evidence starts anew. Every row adds to the totals; only the first row of a fingerprint
    that is not in ``seen`` adds to the evidence. If the account is of another tariff, or has another number of cells or
    leaks, evidence and leaks restart and the rest continues.
    """
    leaks = charge.leaks
    if before is None:
        evidence = EvidenceState.new(charge.cell_count, charge.at)
    else:
        same = _is_comparable(before, charge)
        evidence = evidence_math.restarted(before.evidence, charge.cell_count, charge.at, period, same=same)
        if same:
            leaks = tuple(old + new for old, new in zip(before.leaks, charge.leaks, strict=True))
    cells = charge.cells or (None,) * charge.rows
    fresh: dict[bytes, int | None] = {}
    for fingerprint, cell in zip(charge.fingerprints, cells, strict=True):
        if fingerprint not in seen:
            fresh.setdefault(fingerprint, cell)

    after = Account(
        caller=caller,
        model=charge.model,
        rows=charge.rows + (before.rows if before else 0),
        requests=1 + (before.requests if before else 0),
        leaks=leaks,
        evidence=evidence_math.counted(evidence, [cell for cell in fresh.values() if cell is not None]),
        work=before.work if before else 0.0,
        tariff=charge.tariff,
        first_seen=before.first_seen if before else charge.at,
        last_seen=max(before.last_seen, charge.at) if before else charge.at,
    )
    return after, tuple(fresh)


def updated(account: Account, update: EvidenceUpdate) -> Account:
    """The account after a valid update of its evidence; unchanged if it is of another tariff by now."""
    if account.tariff != update.tariff:
        return account
    return replace(account, evidence=evidence_math.updated(account.evidence, update))


def sketch_slots(learned: int, fresh: tuple[bytes, ...]) -> Iterator[tuple[int, bytes]]:
    """The slots for fresh fingerprints in a ring of ``SKETCH_SIZE``, into which ``learned`` have been added so far."""
    start = max(0, len(fresh) - SKETCH_SIZE)
    return (((learned + turn) % SKETCH_SIZE, fresh[turn]) for turn in range(start, len(fresh)))


def check_usage(caller: Caller, more: DailyUsage) -> None:
    """Validate usage to be added to a day.

    Raises:
        ValueError: an invalid name, or a number that is negative, not finite, or too large for a column.
    """
    check_names(caller, "days")
    if not (0 <= more.day < 2**31 and 0 <= more.rows < 2**53 and 0.0 <= more.work < math.inf):
        raise ValueError("a day, its rows and its work must be finite numbers from 0 up")


def usage_on(stored: DailyUsage | None, day: int) -> DailyUsage:
    """The usage on a day: the stored one if it is of that day or a later one, else zero."""
    return stored if stored is not None and stored.day >= day else DailyUsage(day)


def spend(stored: DailyUsage | None, more: DailyUsage, quota: DailyQuota) -> DailyUsage | None:
    """The usage after adding ``more``, or None if the quota does not cover it."""
    before = usage_on(stored, more.day)
    if not quota.covers(before, more.rows):
        return None
    return DailyUsage(before.day, before.rows + more.rows, before.work + more.work)


def hashed_name(caller: Caller, salt: bytes) -> str:
    """The caller's pseudonym in the log: 16 hexadecimal digits, keyed so that trying all network prefixes is useless."""
    return _hashed(caller.name, salt)


@lru_cache(maxsize=1024)  # a request needs its caller's twice
def _hashed(name: str, salt: bytes) -> str:
    return blake2b(name.encode(), key=salt, digest_size=8).hexdigest()


@lru_cache(maxsize=32)  # there are few purposes, and most processes have one ledger
def derived_key(purpose: str, salt: bytes) -> bytes:
    """A secret of 32 bytes for one purpose, from the salt of a ledger."""
    return blake2b(purpose.encode(), key=salt, digest_size=32, person=b"modeltoll").digest()


def _is_comparable(account: Account, charge: Charge) -> bool:
    return (
        account.tariff == charge.tariff
        and account.evidence.cells == charge.cell_count
        and len(account.leaks) == len(charge.leaks)
    )
