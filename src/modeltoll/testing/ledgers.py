"""The law of the ledger room: what every ``Ledger`` must do, in one call.

In a test: ``check_ledger(lambda: MyLedger(tmp_path / "ledger"), survives_reopen=True)``.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

from modeltoll.errors import LedgerError
from modeltoll.ledger.account_math import HALF_LIFE
from modeltoll.records import Caller
from modeltoll.testing.ledger_charges import CHARGE_LAWS, MODEL, NOW, Law, Make, bill, caller_named, entry, open_ledger
from modeltoll.testing.ledger_days import DAY_LAWS, a_day_is_shared_and_lasts
from modeltoll.testing.ledger_groups import GROUP_LAWS

if TYPE_CHECKING:
    from modeltoll.ledger.ledger import Ledger

__all__ = ["LASTING_LAWS", "LAWS", "check_ledger"]


def check_ledger(make: Make, *, survives_reopen: bool) -> None:
    """Hold a ledger to every law; it must have the default half-life of its counts.

    ``make`` returns a ledger that is not yet opened. Where ``survives_reopen`` is claimed, all that it returns share
    one store, which may hold other things already. Must be called where no event loop runs.

    Raises:
        AssertionError: a law does not hold; the traceback names it.
    """
    for law in (*LAWS, *(LASTING_LAWS if survives_reopen else ())):
        asyncio.run(law(make))


async def bills_add_work_and_lines(make: Make) -> None:
    """Bills add their work to the account and read back from the log as they were, in order, page by page."""
    caller, other = Caller("key:suite-bills"), Caller("net:198.51.100.0/24")
    async with open_ledger(make, caller, other) as ledger:
        start = await _last_line(ledger)
        await ledger.charge(caller, entry(1))
        issued = [bill(0.5 + number, NOW + number, mode) for number, mode in enumerate(("sealed", "shadow", "free"))]
        for one in issued:
            await ledger.bill(caller, one)
        await ledger.bill(other, bill(9.0))
        assert (await caller_named(ledger, caller)).work == 4.5
        assert await ledger.account(other, MODEL, NOW) is None  # never charged: the log has its bill, no account does
        lines = list(await ledger.log(start, 10))
        assert [line for _, _, line in lines] == [*issued, bill(9.0)]
        numbers = [number for number, _, _ in lines]
        assert numbers == sorted(set(numbers))
        assert numbers[0] > start
        assert list(await ledger.log(numbers[0], 2)) == lines[1:3]
        assert list(await ledger.log(numbers[-1], 10)) == []
        assert list(await ledger.log(start, 0)) == []


async def the_log_hides_who_asked(make: Make) -> None:
    """The log tells callers apart by a hash of their own and never names them."""
    caller, other = Caller("key:suite-hidden"), Caller("key:suite-hidden-2")
    async with open_ledger(make) as ledger:
        start = await _last_line(ledger)
        for name in (caller, other, caller):
            await ledger.bill(name, bill(1.0))
        first, second, third = [hashed for _, hashed, _ in await ledger.log(start, 3)]
        assert first == third != second
        assert [ledger.logged_as(caller), ledger.logged_as(other)] == [first, second]
        assert len(first) == 16
        assert int(first, 16) >= 0
        assert "hidden" not in first


async def the_largest_come_first(make: Make) -> None:
    """The accounts with the most work issued come first, with their counts faded to the time asked for."""
    callers = [Caller(f"key:suite-largest-{number}") for number in range(3)]
    async with open_ledger(make, *callers) as ledger:
        for caller, seconds in zip(callers, (1e12, 3e12, 2e12), strict=True):
            await ledger.charge(caller, entry(1, 2))
            await ledger.bill(caller, bill(seconds))
        top = await ledger.largest(2, NOW + HALF_LIFE)
        assert [account.caller.name for account in top] == [callers[1].name, callers[2].name]
        assert [account.work for account in top] == [3e12, 2e12]
        assert math.isclose(top[0].counts[0][0], 1.0)
        assert list(await ledger.largest(0, NOW)) == []
        for caller in callers:
            await ledger.reset(caller, MODEL)


async def reset_forgets_an_account_and_its_sketch(make: Make) -> None:
    """After a reset the caller is unknown and its old rows count again; the log stays."""
    caller = Caller("key:suite-reset")
    async with open_ledger(make, caller) as ledger:
        start = await _last_line(ledger)
        await ledger.charge(caller, entry(1))
        await ledger.bill(caller, bill(1.0))
        assert await ledger.reset(caller, MODEL) is True
        assert await ledger.account(caller, MODEL, NOW) is None
        assert await ledger.reset(caller, MODEL) is False
        assert len(await ledger.log(start, 10)) == 1
        fresh = await ledger.charge(caller, entry(1))
        assert (fresh.rows, fresh.requests, fresh.work, fresh.counts[0][0]) == (1, 1, 0.0, 1.0)


async def a_closed_ledger_says_so(make: Make) -> None:
    """Before it is opened and after it is closed, a ledger raises ``LedgerError``; closing twice is no fault."""
    caller, ledger = Caller("key:suite-closed"), make()
    await _assert_closed(ledger, caller)
    await ledger.open()
    await ledger.close()
    await ledger.close()
    await _assert_closed(ledger, caller)


async def it_survives_a_reopen(make: Make) -> None:
    """Account, sketch, work and log are there again after closing and opening."""
    caller = Caller("key:suite-reopen")
    async with open_ledger(make, caller) as ledger:
        start = await _last_line(ledger)
        await ledger.charge(caller, entry(1, 2))
        await ledger.bill(caller, bill(2.0))
        before = await caller_named(ledger, caller)
        lines = list(await ledger.log(start, 10))
    async with open_ledger(make) as ledger:
        assert await caller_named(ledger, caller) == before
        assert list(await ledger.log(start, 10)) == lines
        assert (await ledger.charge(caller, entry(2, 3))).counts[0][0] == 3.0


async def gateways_share_one_store(make: Make) -> None:
    """Two gateways on one store add up exactly, and no two charges see the same row count."""
    caller = Caller("key:suite-gateways")
    async with open_ledger(make, caller) as one, open_ledger(make) as other:
        charges = [ledger.charge(caller, entry(number)) for number in range(50) for ledger in (one, other)]
        accounts = await asyncio.gather(*charges)
        assert sorted(account.rows for account in accounts) == list(range(1, 101))
        last = await caller_named(other, caller)
        assert last == await caller_named(one, caller)
        assert last.counts[0][0] == 50.0  # each row was sent through both, and counted once


LAWS: tuple[Law, ...] = (
    *CHARGE_LAWS,
    *GROUP_LAWS,
    *DAY_LAWS,
    bills_add_work_and_lines,
    the_log_hides_who_asked,
    the_largest_come_first,
    reset_forgets_an_account_and_its_sketch,
    a_closed_ledger_says_so,
)
LASTING_LAWS: tuple[Law, ...] = (it_survives_a_reopen, gateways_share_one_store, a_day_is_shared_and_lasts)


async def _last_line(ledger: Ledger) -> int:
    last = 0
    while page := await ledger.log(last, 1000):
        last = page[-1][0]
    return last


async def _assert_closed(ledger: Ledger, caller: Caller) -> None:
    try:
        await ledger.charge(caller, entry(1))
    except LedgerError:
        return
    raise AssertionError("a ledger that is not open took a charge")
