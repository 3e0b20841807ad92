"""The arithmetic of accounts: pure, and the same in every ledger.

A store keeps an ``Account`` and a sketch of the caller's latest fingerprints. It reads them, calls ``charge``, and
writes what comes back, all in one atomic step; nothing here waits, draws or looks at a clock. A group is an account
like any other, with a sketch of its own, that an entry of each of its callers changes in the same step.

The p-value counts of a caller fade: a row counts 1 when it comes and 0.5**(age / half_life) later. Since fading
multiplies, it does not matter how often an account is touched in between.
"""

from __future__ import annotations

import math
from dataclasses import replace
from hashlib import blake2b
from itertools import chain
from typing import TYPE_CHECKING

from modeltoll.records import GROUP_SCHEMES, Account, Caller, DailyUsage

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator

    from modeltoll.records import Charge, DailyQuota, LogEntry

__all__ = [
    "FINGERPRINT_BYTES",
    "HALF_LIFE",
    "SKETCH_SIZE",
    "affected_accounts",
    "charge",
    "check_charge",
    "check_log_entry",
    "check_names",
    "check_usage",
    "decayed",
    "hashed_name",
    "sketch_slots",
    "spend",
    "usage_on",
    "with_groups",
]

HALF_LIFE = 30 * 86_400.0  # seconds in which a row's count fades to a half
SKETCH_SIZE = 4096  # how many of its latest different fingerprints an account remembers
FINGERPRINT_BYTES = 8


def check_names(caller: Caller, model: str) -> None:
    """Refuse names that not every store can keep.

    Raises:
        ValueError: a name is empty, holds a NUL, or is not Unicode text; a group is not named as one, or named twice.
    """
    for name in (caller.name, *caller.groups, model):
        if not name or "\0" in name:
            raise ValueError("callers and models need names, and none with a NUL in it")
        name.encode()  # a lone surrogate raises UnicodeEncodeError, which is a ValueError
    if not caller.groups:
        return
    names = {caller.name, *caller.groups}
    if not all(group.is_group for group in affected_accounts(caller)[1:]) or len(names) <= len(caller.groups):
        raise ValueError(f"the name of a group begins with {' or '.join(GROUP_SCHEMES)}, and is given once")


def affected_accounts(caller: Caller) -> tuple[Caller, ...]:
    """Whose accounts an entry of this caller changes: his own first, then those of his groups."""
    return (caller, *map(Caller, caller.groups)) if caller.groups else (caller,)


def with_groups(own: Account, shared: Iterable[Account | None]) -> Account:
    """The caller's own account with those of his groups that are known."""
    known = tuple([account for account in shared if account is not None])
    return replace(own, groups=known) if known else own


def check_charge(caller: Caller, entry: Charge) -> None:
    """Refuse an entry that would spoil an account.

    Raises:
        ValueError: a name cannot be kept, the rows disagree in number, a bin lies outside the histogram, a fingerprint is not of 8 bytes,
            a leak is negative, or a number is not finite.
    """
    check_names(caller, entry.model)
    measures, width = entry.shape
    if not entry.rows == len(entry.bins) == len(entry.fingerprints):
        raise ValueError("an entry needs one line of bins and one fingerprint for each of its rows")
    for bins in entry.bins:
        if len(bins) != measures or (bins and not (min(bins) >= 0 and max(bins) < width)):
            raise ValueError(f"a row of an entry does not fit a histogram of shape {entry.shape}")
    if any(len(fingerprint) != FINGERPRINT_BYTES for fingerprint in entry.fingerprints):
        raise ValueError(f"a fingerprint has {FINGERPRINT_BYTES} bytes")
    if not math.isfinite(entry.at) or any(not 0.0 <= leak < math.inf for leak in entry.leaks):
        raise ValueError("the time and the leaks of an entry must be finite, and leaks not negative")


def check_log_entry(caller: Caller, bill: LogEntry) -> None:
    """Refuse a bill that would spoil an account or the log.

    Raises:
        ValueError: a name cannot be kept, the work is negative, or a number is not finite.
    """
    check_names(caller, bill.model)
    work = bill.work
    numbers = (bill.at, work.seconds, work.rows_seconds, work.new_account_seconds, work.surcharge, work.group_surcharge)
    if not all(map(math.isfinite, chain(numbers, bill.rarest, chain.from_iterable(bill.leaks)))):
        raise ValueError("the numbers of a bill must be finite")
    if work.seconds < 0.0:
        raise ValueError("the work of a bill must not be negative")


def charge(
    before: Account | None, caller: Caller, entry: Charge, seen: Container[bytes], half_life: float
) -> tuple[Account, tuple[bytes, ...]]:
    """The account after a checked entry, and the fingerprints that its sketch must learn, oldest first.

    ``seen`` holds those of the entry's fingerprints that are in the caller's sketch; ``half_life`` is in seconds.
    Every row adds to the totals, but only the first row of an unseen fingerprint adds to the counts. Where the
    account was kept under another tariff (or another shape), counts and leaks start anew and the rest goes on.
    """
    fresh: dict[bytes, tuple[int, ...]] = {}
    for fingerprint, bins in zip(entry.fingerprints, entry.bins, strict=True):
        if fingerprint not in seen:
            fresh.setdefault(fingerprint, bins)

    measures, width = entry.shape
    if before is not None and _comparable(before, entry):
        share = _share(before, entry.at, half_life)
        counts = [[count * share for count in row] for row in before.counts]
        leaks = tuple(old + new for old, new in zip(before.leaks, entry.leaks, strict=True))
    else:
        counts = [[0.0] * width for _ in range(measures)]
        leaks = entry.leaks
    for bins in fresh.values():
        for row, hit in zip(counts, bins, strict=True):
            row[hit] += 1.0

    after = Account(
        caller=caller,
        model=entry.model,
        rows=entry.rows + (before.rows if before else 0),
        requests=1 + (before.requests if before else 0),
        leaks=leaks,
        counts=tuple(map(tuple, counts)),
        work=before.work if before else 0.0,
        tariff=entry.tariff,
        first_seen=before.first_seen if before else entry.at,
        last_seen=max(before.last_seen, entry.at) if before else entry.at,
    )
    return after, tuple(fresh)


def decayed(account: Account, at: float, half_life: float) -> Account:
    """The account with its counts as they are at the time ``at``; a clock that went back never makes them grow."""
    share = _share(account, at, half_life)
    return replace(account, counts=tuple(tuple([count * share for count in row]) for row in account.counts))


def _share(account: Account, at: float, half_life: float) -> float:
    """What is left of a count at the time ``at``, 0 to 1."""
    return float(0.5 ** (max(0.0, at - account.last_seen) / half_life))


def sketch_slots(learned: int, fresh: tuple[bytes, ...]) -> Iterator[tuple[int, bytes]]:
    """Where fresh fingerprints go in a ring of ``SKETCH_SIZE`` slots that has learned ``learned`` fingerprints so far."""
    start = max(0, len(fresh) - SKETCH_SIZE)
    return (((learned + turn) % SKETCH_SIZE, fresh[turn]) for turn in range(start, len(fresh)))


def check_usage(caller: Caller, more: DailyUsage) -> None:
    """Refuse what would spoil a day.

    Raises:
        ValueError: the name cannot be kept, or a number is negative, not finite, or too large for a column.
    """
    check_names(caller, "days")
    if not (0 <= more.day < 2**31 and 0 <= more.rows < 2**53 and 0.0 <= more.work < math.inf):
        raise ValueError("a day, its rows and its work must be finite numbers from 0 up")


def usage_on(kept: DailyUsage | None, day: int) -> DailyUsage:
    """What was had of a day, or of a later one that has begun already."""
    return kept if kept is not None and kept.day >= day else DailyUsage(day)


def spend(kept: DailyUsage | None, more: DailyUsage, quota: DailyQuota) -> DailyUsage | None:
    """The day after more was had, or None where the quota does not cover it."""
    before = usage_on(kept, more.day)
    if not quota.covers(before, more.rows):
        return None
    return DailyUsage(before.day, before.rows + more.rows, before.work + more.work)


def hashed_name(caller: Caller, salt: bytes) -> str:
    """The caller's name in the log: 16 hexadecimal digits, keyed so that nobody can try all network prefixes."""
    return blake2b(caller.name.encode(), key=salt, digest_size=8).hexdigest()


def _comparable(account: Account, entry: Charge) -> bool:
    measures, width = entry.shape
    return (
        account.tariff == entry.tariff
        and len(account.counts) == measures
        and all(len(row) == width for row in account.counts)
        and len(account.leaks) == len(entry.leaks)
    )
