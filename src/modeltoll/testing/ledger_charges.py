"""The laws of charges, and what all laws of the ledger room are written with."""

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

__all__ = ["CHARGE_LAWS", "MODEL", "NOW", "Law", "Make", "bill", "caller_named", "entry", "open_ledger"]

Make = Callable[[], Ledger]
Law = Callable[[Make], Coroutine[Any, Any, None]]

NOW = 1_750_000_000.0
MODEL = "suite"
SHAPE = (2, 3)


@asynccontextmanager
async def open_ledger(make: Make, *callers: Caller) -> AsyncIterator[Ledger]:
    """An open ledger that knows nothing of these callers."""
    ledger = make()
    await ledger.open()
    try:
        for caller in callers:
            await ledger.reset(caller, MODEL)
        yield ledger
    finally:
        await ledger.close()


def row(number: int) -> bytes:
    return number.to_bytes(8, "big")


def entry(*numbers: int, hit: int = 0, at: float = NOW, tariff: str = "first", model: str = MODEL) -> Charge:
    """One row per number, all in the same bin of both measures; the same number is the same input."""
    return Charge(
        model=model,
        rows=len(numbers),
        leaks=(0.5 * len(numbers), 0.25 * len(numbers)),
        bins=((hit, 2),) * len(numbers),
        fingerprints=tuple(map(row, numbers)),
        shape=SHAPE,
        tariff=tariff,
        at=at,
    )


def bill(seconds: float, at: float = NOW, mode: str = "sealed") -> LogEntry:
    work = Work(seconds, 2, rows_seconds=seconds - 0.1, new_account_seconds=0.1, surcharge=1.5, group_surcharge=2.5)
    return LogEntry(at, MODEL, 2, ("entropy", "gap"), ((0.1, 1 / 3), (0.0, 1e-300)), (0.2, 1 / 601), work, mode)


async def caller_named(ledger: Ledger, caller: Caller, at: float = NOW) -> Account:
    account = await ledger.account(caller, MODEL, at)
    assert account is not None
    return account


async def concurrent_charges_add_up(make: Make) -> None:
    """100 charges at once add up exactly, and each sees a row count of its own."""
    caller = Caller("key:suite-adds-up")
    async with open_ledger(make, caller) as ledger:
        accounts = await asyncio.gather(*(ledger.charge(caller, entry(number)) for number in range(100)))
        assert sorted(account.rows for account in accounts) == list(range(1, 101))
        assert sorted(account.requests for account in accounts) == list(range(1, 101))
        assert all(sum(account.counts[0]) == account.rows for account in accounts)
        last = await caller_named(ledger, caller)
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


async def counts_fade(make: Make) -> None:
    """Counts halve with each half-life, in reads and in charges alike; rows, requests and leaks never do."""
    caller = Caller("key:suite-fades")
    async with open_ledger(make, caller) as ledger:
        await ledger.charge(caller, entry(1, 2, 3, 4))
        read = await caller_named(ledger, caller, NOW + HALF_LIFE)
        assert math.isclose(read.counts[0][0], 2.0)
        charged = await ledger.charge(caller, entry(5, hit=1, at=NOW + 2 * HALF_LIFE))
        assert math.isclose(charged.counts[0][0], 1.0)
        assert charged.counts[0][1] == 1.0
        assert (charged.rows, charged.requests, charged.leaks) == (5, 2, (2.5, 1.25))
        assert (charged.first_seen, charged.last_seen) == (NOW, NOW + 2 * HALF_LIFE)


async def a_clock_set_back_never_makes_counts_grow(make: Make) -> None:
    """An entry or a read from the past neither enlarges counts nor turns the account's clock back."""
    caller = Caller("key:suite-clock")
    async with open_ledger(make, caller) as ledger:
        await ledger.charge(caller, entry(1))
        charged = await ledger.charge(caller, entry(2, at=NOW - HALF_LIFE))
        assert charged.counts[0][0] == 2.0
        assert (charged.first_seen, charged.last_seen) == (NOW, NOW)
        assert (await caller_named(ledger, caller, NOW - HALF_LIFE)).counts[0][0] == 2.0


async def repeated_rows_are_charged_and_not_counted(make: Make) -> None:
    """A row seen before, or twice in a request, adds to rows and leaks; only its first sight adds to the counts."""
    caller = Caller("key:suite-repeats")
    async with open_ledger(make, caller) as ledger:
        first = await ledger.charge(caller, entry(1, 1, 2))
        assert first.rows == 3
        assert first.counts == ((2.0, 0.0, 0.0), (0.0, 0.0, 2.0))
        second = await ledger.charge(caller, entry(2, 3, 1, hit=1))
        assert second.rows == 6
        assert second.leaks == (3.0, 1.5)
        assert second.counts == ((2.0, 1.0, 0.0), (0.0, 0.0, 3.0))


async def the_sketch_remembers_its_size_and_no_more(make: Make) -> None:
    """The last ``SKETCH_SIZE`` different rows are remembered, whether they came in one request or in many."""
    caller = Caller("key:suite-sketch")
    async with open_ledger(make, caller) as ledger:
        await ledger.charge(caller, entry(0))
        await ledger.charge(caller, entry(*range(SKETCH_SIZE)))
        full = await ledger.charge(caller, entry(0, SKETCH_SIZE - 1))
        assert full.counts[0][0] == SKETCH_SIZE
        over = await ledger.charge(caller, entry(SKETCH_SIZE))  # the oldest, 0, is forgotten
        assert over.counts[0][0] == SKETCH_SIZE + 1
        assert (await ledger.charge(caller, entry(1, SKETCH_SIZE))).counts[0][0] == SKETCH_SIZE + 1
        assert (await ledger.charge(caller, entry(0))).counts[0][0] == SKETCH_SIZE + 2
        flood = await ledger.charge(caller, entry(*range(10_000, 10_001 + SKETCH_SIZE)))
        assert flood.counts[0][0] == 2 * SKETCH_SIZE + 3
        again = await ledger.charge(caller, entry(10_000, 10_001))
        assert again.counts[0][0] == 2 * SKETCH_SIZE + 4


async def another_tariff_starts_counts_and_leaks_anew(make: Make) -> None:
    """Counts and leaks of different tariffs never mix; rows, requests and work go on."""
    caller = Caller("key:suite-tariff")
    async with open_ledger(make, caller) as ledger:
        await ledger.charge(caller, entry(1, 2))
        await ledger.bill(caller, bill(3.0))
        after = await ledger.charge(caller, entry(3, tariff="second"))
        assert (after.tariff, after.rows, after.requests, after.work) == ("second", 3, 2, 3.0)
        assert after.leaks == (0.5, 0.25)
        assert after.counts == ((1.0, 0.0, 0.0), (0.0, 0.0, 1.0))
        assert (after.first_seen, after.last_seen) == (NOW, NOW)


async def callers_and_models_are_kept_apart(make: Make) -> None:
    """What one caller does to one model shows nowhere else, not even in the sketch."""
    one, other = Caller("key:suite-one"), Caller("key:suite-ONE")
    async with open_ledger(make, one, other) as ledger:
        await ledger.reset(one, "suite-2")
        await ledger.charge(one, entry(1))
        assert (await ledger.charge(other, entry(1))).counts[0][0] == 1.0
        assert (await ledger.charge(one, entry(1, model="suite-2"))).counts[0][0] == 1.0
        assert (await caller_named(ledger, one)).rows == 1
        await ledger.reset(one, "suite-2")


async def spoilt_entries_are_refused_and_leave_no_trace(make: Make) -> None:
    """An entry that does not fit itself raises ``ValueError`` and changes nothing."""
    caller = Caller("key:suite-spoilt")
    good = {"model": MODEL, "rows": 1, "leaks": (0.5, 0.5), "bins": ((0, 0),), "fingerprints": (row(1),), "at": NOW}
    spoilt: list[dict[str, object]] = [
        {"rows": 2},
        {"leaks": (math.nan, 0.5)},
        {"leaks": (-0.5, 0.5)},
        {"bins": ((0, SHAPE[1]),)},
        {"bins": ((0, -1),)},
        {"bins": ((0,),)},
        {"fingerprints": (b"short",)},
        {"at": math.inf},
        {"model": ""},
    ]
    async with open_ledger(make, caller) as ledger:
        for fault in spoilt:
            bad = Charge(**(good | fault), shape=SHAPE, tariff="first")  # type: ignore[arg-type]
            try:
                await ledger.charge(caller, bad)
            except ValueError:
                continue
            raise AssertionError(f"an entry with {fault} was taken")
        assert await ledger.account(caller, MODEL, NOW) is None


CHARGE_LAWS: tuple[Law, ...] = (
    concurrent_charges_add_up,
    counts_fade,
    a_clock_set_back_never_makes_counts_grow,
    repeated_rows_are_charged_and_not_counted,
    the_sketch_remembers_its_size_and_no_more,
    another_tariff_starts_counts_and_leaks_anew,
    callers_and_models_are_kept_apart,
    spoilt_entries_are_refused_and_leave_no_trace,
)
