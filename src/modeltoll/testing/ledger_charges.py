"""Checks of ``Ledger.charge``, and the helpers that all ledger checks use."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from modeltoll.ledger.account_math import HALF_LIFE, SKETCH_SIZE
from modeltoll.ledger.ledger import Ledger
from modeltoll.records import Account, Caller, Charge, LogEntry, Work

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = [
    "CHARGE_CHECKS",
    "MODEL",
    "NOW",
    "LedgerCheck",
    "LedgerFactory",
    "existing_account",
    "make_charge",
    "make_log_entry",
    "open_ledger",
]

LedgerFactory = Callable[[], Ledger]
LedgerCheck = Callable[[LedgerFactory], Coroutine[Any, Any, None]]

NOW = 1_750_000_000.0  # seconds since the epoch
MODEL = "suite"
_SHAPE = (2, 3)


@asynccontextmanager
async def open_ledger(make: LedgerFactory, *callers: Caller) -> AsyncIterator[Ledger]:
    """Open a ledger without accounts of these callers; it is closed at the end."""
    ledger = make()
    await ledger.open()
    try:
        for caller in callers:
            await ledger.reset(caller, MODEL)
        yield ledger
    finally:
        await ledger.close()


def _fingerprint(number: int) -> bytes:
    """A fingerprint of 8 bytes."""
    return number.to_bytes(8, "big")


def make_charge(
    *numbers: int, first_bin: int = 0, at: float = NOW, tariff: str = "first", model: str = MODEL
) -> Charge:
    """A charge of one row per number; equal numbers are equal inputs.

    ``first_bin`` is the p-value bin under the first measure; under the second it is always 2. ``at`` is in seconds since
    the epoch.
    """
    return Charge(
        model=model,
        rows=len(numbers),
        leaks=(0.5 * len(numbers), 0.25 * len(numbers)),
        bins=((first_bin, 2),) * len(numbers),
        fingerprints=tuple(map(_fingerprint, numbers)),
        shape=_SHAPE,
        tariff=tariff,
        at=at,
    )


def make_log_entry(seconds: float, at: float = NOW, mode: str = "sealed") -> LogEntry:
    """A log entry of two rows that cost ``seconds`` reference seconds together."""
    work = Work(seconds, 2, rows_seconds=seconds - 0.1, new_account_seconds=0.1, surcharge=1.5, group_surcharge=2.5)
    return LogEntry(at, MODEL, 2, ("entropy", "gap"), ((0.1, 1 / 3), (0.0, 1e-300)), (0.2, 1 / 601), work, mode)


async def existing_account(ledger: Ledger, caller: Caller, at: float = NOW) -> Account:
    """The caller's account, which must exist, with its counts decayed to ``at``."""
    account = await ledger.account(caller, MODEL, at)
    assert account is not None
    return account


async def _concurrent_charges_add_up(make: LedgerFactory) -> None:
    """100 concurrent charges add up exactly, and each returns another row count."""
    caller = Caller("key:suite-adds-up")
    async with open_ledger(make, caller) as ledger:
        accounts = await asyncio.gather(*(ledger.charge(caller, make_charge(number)) for number in range(100)))
        assert sorted(account.rows for account in accounts) == list(range(1, 101))
        assert sorted(account.requests for account in accounts) == list(range(1, 101))
        assert all(sum(account.counts[0]) == account.rows for account in accounts)
        last = await existing_account(ledger, caller)
        assert last == max(accounts, key=lambda account: account.rows)
        assert last == Account(
            caller=caller,
            model=MODEL,
            rows=100,
            requests=100,
            leaks=(50.0, 25.0),
            counts=((100.0, 0.0, 0.0), (0.0, 0.0, 100.0)),
            work=0.0,
            tariff="first",
            first_seen=NOW,
            last_seen=NOW,
        )


async def _counts_halve_with_each_half_life(make: LedgerFactory) -> None:
    """Counts halve with each half-life, in reads and in charges; rows, requests and leaks do not decay."""
    caller = Caller("key:suite-half-life")
    async with open_ledger(make, caller) as ledger:
        await ledger.charge(caller, make_charge(1, 2, 3, 4))
        read = await existing_account(ledger, caller, NOW + HALF_LIFE)
        assert math.isclose(read.counts[0][0], 2.0)
        charged = await ledger.charge(caller, make_charge(5, first_bin=1, at=NOW + 2 * HALF_LIFE))
        assert math.isclose(charged.counts[0][0], 1.0)
        assert charged.counts[0][1] == 1.0
        assert (charged.rows, charged.requests, charged.leaks) == (5, 2, (2.5, 1.25))
        assert (charged.first_seen, charged.last_seen) == (NOW, NOW + 2 * HALF_LIFE)


async def _a_clock_set_back_never_raises_counts(make: LedgerFactory) -> None:
    """A charge or a read with an earlier time neither raises counts nor sets the account's times back."""
    caller = Caller("key:suite-clock")
    async with open_ledger(make, caller) as ledger:
        await ledger.charge(caller, make_charge(1))
        charged = await ledger.charge(caller, make_charge(2, at=NOW - HALF_LIFE))
        assert charged.counts[0][0] == 2.0
        assert (charged.first_seen, charged.last_seen) == (NOW, NOW)
        assert (await existing_account(ledger, caller, NOW - HALF_LIFE)).counts[0][0] == 2.0


async def _repeated_rows_are_charged_and_not_counted(make: LedgerFactory) -> None:
    """A repeated row adds to rows and leaks; only its first occurrence adds to the counts."""
    caller = Caller("key:suite-repeats")
    async with open_ledger(make, caller) as ledger:
        first = await ledger.charge(caller, make_charge(1, 1, 2))
        assert first.rows == 3
        assert first.counts == ((2.0, 0.0, 0.0), (0.0, 0.0, 2.0))
        second = await ledger.charge(caller, make_charge(2, 3, 1, first_bin=1))
        assert second.rows == 6
        assert second.leaks == (3.0, 1.5)
        assert second.counts == ((2.0, 1.0, 0.0), (0.0, 0.0, 3.0))


async def _the_sketch_holds_the_latest_fingerprints(make: LedgerFactory) -> None:
    """The sketch holds the last ``SKETCH_SIZE`` different fingerprints, whether of one request or of many."""
    caller = Caller("key:suite-sketch")
    async with open_ledger(make, caller) as ledger:
        await ledger.charge(caller, make_charge(0))
        await ledger.charge(caller, make_charge(*range(SKETCH_SIZE)))
        full = await ledger.charge(caller, make_charge(0, SKETCH_SIZE - 1))
        assert full.counts[0][0] == SKETCH_SIZE
        over = await ledger.charge(caller, make_charge(SKETCH_SIZE))  # drops the oldest, 0
        assert over.counts[0][0] == SKETCH_SIZE + 1
        assert (await ledger.charge(caller, make_charge(1, SKETCH_SIZE))).counts[0][0] == SKETCH_SIZE + 1
        assert (await ledger.charge(caller, make_charge(0))).counts[0][0] == SKETCH_SIZE + 2
        flood = await ledger.charge(caller, make_charge(*range(10_000, 10_001 + SKETCH_SIZE)))
        assert flood.counts[0][0] == 2 * SKETCH_SIZE + 3
        again = await ledger.charge(caller, make_charge(10_000, 10_001))
        assert again.counts[0][0] == 2 * SKETCH_SIZE + 4


async def _another_tariff_restarts_counts_and_leaks(make: LedgerFactory) -> None:
    """Counts and leaks of different tariffs never mix; rows, requests and work continue."""
    caller = Caller("key:suite-tariff")
    async with open_ledger(make, caller) as ledger:
        await ledger.charge(caller, make_charge(1, 2))
        await ledger.bill(caller, make_log_entry(3.0))
        after = await ledger.charge(caller, make_charge(3, tariff="second"))
        assert (after.tariff, after.rows, after.requests, after.work) == ("second", 3, 2, 3.0)
        assert after.leaks == (0.5, 0.25)
        assert after.counts == ((1.0, 0.0, 0.0), (0.0, 0.0, 1.0))
        assert (after.first_seen, after.last_seen) == (NOW, NOW)


async def _callers_and_models_are_separate(make: LedgerFactory) -> None:
    """A charge of one caller and model changes no other account, and no other sketch."""
    one, other = Caller("key:suite-one"), Caller("key:suite-ONE")
    async with open_ledger(make, one, other) as ledger:
        await ledger.reset(one, "suite-2")
        await ledger.charge(one, make_charge(1))
        assert (await ledger.charge(other, make_charge(1))).counts[0][0] == 1.0
        assert (await ledger.charge(one, make_charge(1, model="suite-2"))).counts[0][0] == 1.0
        assert (await existing_account(ledger, one)).rows == 1
        await ledger.reset(one, "suite-2")


async def _invalid_charges_are_refused_and_change_nothing(make: LedgerFactory) -> None:
    """An inconsistent charge raises ``ValueError`` and changes nothing."""
    caller = Caller("key:suite-invalid")
    valid = {
        "model": MODEL,
        "rows": 1,
        "leaks": (0.5, 0.5),
        "bins": ((0, 0),),
        "fingerprints": (_fingerprint(1),),
        "at": NOW,
    }
    invalid_fields: list[dict[str, object]] = [
        {"rows": 2},
        {"leaks": (math.nan, 0.5)},
        {"leaks": (-0.5, 0.5)},
        {"bins": ((0, _SHAPE[1]),)},
        {"bins": ((0, -1),)},
        {"bins": ((0,),)},
        {"fingerprints": (b"short",)},
        {"at": math.inf},
        {"model": ""},
    ]
    async with open_ledger(make, caller) as ledger:
        for invalid in invalid_fields:
            charge = Charge(**(valid | invalid), shape=_SHAPE, tariff="first")  # type: ignore[arg-type]
            try:
                await ledger.charge(caller, charge)
            except ValueError:
                continue
            raise AssertionError(f"a charge with {invalid} was accepted")
        assert await ledger.account(caller, MODEL, NOW) is None


CHARGE_CHECKS: tuple[LedgerCheck, ...] = (
    _concurrent_charges_add_up,
    _counts_halve_with_each_half_life,
    _a_clock_set_back_never_raises_counts,
    _repeated_rows_are_charged_and_not_counted,
    _the_sketch_holds_the_latest_fingerprints,
    _another_tariff_restarts_counts_and_leaks,
    _callers_and_models_are_separate,
    _invalid_charges_are_refused_and_change_nothing,
)
