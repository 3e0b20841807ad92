"""The laws of days: what callers with an allowance have had."""

from __future__ import annotations

import asyncio

from modeltoll.records import Caller, DailyQuota, DailyUsage
from modeltoll.testing.ledger_charges import NOW, Law, Make, entry, open_ledger

__all__ = ["DAY_LAWS", "a_day_is_shared_and_lasts"]

_DAY = int(NOW // 86_400)
_FREE = DailyQuota()


def _caller(law: str) -> Caller:
    return Caller(f"key:suite-day-{law}")


async def _today(make: Make, law: str) -> int:
    """A day on which nobody of that law has asked yet, whatever the store has seen before."""
    async with open_ledger(make) as ledger:
        return (await ledger.spent(_caller(law), _DAY)).day + 1


async def a_days_rows_add_up_and_end_exactly(make: Make) -> None:
    """100 requests at once are granted to the last row that the allowance covers, and to no row more."""
    day, caller = await _today(make, "rows"), _caller("rows")
    async with open_ledger(make) as ledger:
        more = DailyUsage(day, rows=3, work=0.5)
        granted = await asyncio.gather(*(ledger.spend(caller, more, DailyQuota(rows=200)) for _ in range(100)))
        assert sum(granted) == 66
        assert await ledger.spent(caller, day) == DailyUsage(day, 198, 33.0)
        assert await ledger.spend(caller, DailyUsage(day, 2), DailyQuota(rows=200))
        assert not await ledger.spend(caller, DailyUsage(day, 1), DailyQuota(rows=200))
        assert not await ledger.spend(Caller("key:suite-day-large"), DailyUsage(day, 201), DailyQuota(rows=200))
        assert (await ledger.spent(Caller("key:suite-day-large"), day)).rows == 0


async def a_days_work_ends_with_what_reaches_it(make: Make) -> None:
    """Work below the limit covers one request more; from the limit on there is nothing, not even rows without work."""
    day, caller, allowance = await _today(make, "work"), _caller("work"), DailyQuota(work=1.0)
    async with open_ledger(make) as ledger:
        granted = [await ledger.spend(caller, DailyUsage(day, 1, 0.4), allowance) for _ in range(5)]
        assert granted == [True, True, True, False, False]
        assert not await ledger.spend(caller, DailyUsage(day, 1), allowance)
        assert await ledger.spent(caller, day) == DailyUsage(day, 3, 0.4 + 0.4 + 0.4)
        assert await ledger.spend(caller, DailyUsage(day, 1, 0.4), _FREE)


async def a_new_day_begins_with_nothing_and_an_old_one_never_comes_back(make: Make) -> None:
    """What comes late, by a clock that is behind, counts in the latest day."""
    day, caller, allowance = await _today(make, "new"), _caller("new"), DailyQuota(rows=10)
    async with open_ledger(make) as ledger:
        assert await ledger.spend(caller, DailyUsage(day, 10, 1.0), allowance)
        assert await ledger.spent(caller, day + 1) == DailyUsage(day + 1)
        assert await ledger.spend(caller, DailyUsage(day + 1, 6, 0.25), allowance)
        assert not await ledger.spend(caller, DailyUsage(day, 6), allowance)
        assert await ledger.spend(caller, DailyUsage(day, 4), allowance)
        assert await ledger.spent(caller, day) == await ledger.spent(caller, day + 1) == DailyUsage(day + 1, 10, 0.25)


async def days_are_each_callers_own_and_no_account(make: Make) -> None:
    """What one caller has had is nobody else's, and neither charges nor a reset change it."""
    day, caller, other = await _today(make, "own"), _caller("own"), Caller("key:suite-day-OWN")
    async with open_ledger(make, caller, other) as ledger:
        await ledger.spend(caller, DailyUsage(day, 7), _FREE)
        await ledger.charge(caller, entry(1))
        assert await ledger.reset(caller, entry(1).model)
        assert await ledger.spent(caller, day) == DailyUsage(day, 7)
        assert (await ledger.spent(other, day)).rows == 0
        assert all(account.caller != caller for account in await ledger.largest(10_000, NOW))


async def spoilt_spending_is_refused(make: Make) -> None:
    """Numbers that are negative or not finite raise ``ValueError`` and leave no trace."""
    day, caller = await _today(make, "spoilt"), _caller("spoilt")
    async with open_ledger(make) as ledger:
        for more in (
            DailyUsage(-1),
            DailyUsage(day, -1),
            DailyUsage(day, 1, -1.0),
            DailyUsage(day, 1, float("nan")),
            DailyUsage(day, 2**53),
        ):
            try:
                await ledger.spend(caller, more, _FREE)
            except ValueError:
                continue
            raise AssertionError(f"{more} was taken")
        assert await ledger.spent(caller, day) == DailyUsage(day)


async def a_day_is_shared_and_lasts(make: Make) -> None:
    """Two gateways on one store end the day at the same row, and it is there again after closing and opening."""
    day, caller, allowance = await _today(make, "shared"), _caller("shared"), DailyQuota(rows=70)
    async with open_ledger(make) as one, open_ledger(make) as other:
        spending = [
            ledger.spend(caller, DailyUsage(day, 1, 0.5), allowance) for _ in range(50) for ledger in (one, other)
        ]
        assert sum(await asyncio.gather(*spending)) == 70
    async with open_ledger(make) as ledger:
        assert await ledger.spent(caller, day) == DailyUsage(day, 70, 35.0)


DAY_LAWS: tuple[Law, ...] = (
    a_days_rows_add_up_and_end_exactly,
    a_days_work_ends_with_what_reaches_it,
    a_new_day_begins_with_nothing_and_an_old_one_never_comes_back,
    days_are_each_callers_own_and_no_account,
    spoilt_spending_is_refused,
)
