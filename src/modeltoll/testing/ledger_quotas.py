"""Checks of ``Ledger.spend`` and ``Ledger.spent``: usage of daily quotas."""

from __future__ import annotations

import asyncio

from modeltoll.records import Caller, DailyQuota, DailyUsage
from modeltoll.testing.ledger_charges import NOW, LedgerCheck, LedgerFactory, make_charge, open_ledger

__all__ = ["QUOTA_CHECKS", "QUOTA_PERSISTENCE_CHECKS"]

_DAY = int(NOW // 86_400)
_UNLIMITED = DailyQuota()


def _caller(check: str) -> Caller:
    return Caller(f"key:suite-day-{check}")


async def _today(make: LedgerFactory, check: str) -> int:
    """A day without usage by this check, whatever the store holds already."""
    async with open_ledger(make) as ledger:
        return (await ledger.spent(_caller(check), _DAY)).day + 1


async def _rows_add_up_and_end_exactly_at_the_quota(make: LedgerFactory) -> None:
    """100 concurrent requests are granted exactly as many rows as the quota has."""
    day, caller = await _today(make, "rows"), _caller("rows")
    async with open_ledger(make) as ledger:
        usage = DailyUsage(day, rows=3, work=0.5)
        granted = await asyncio.gather(*(ledger.spend(caller, usage, DailyQuota(rows=200)) for _ in range(100)))
        assert sum(granted) == 66
        assert await ledger.spent(caller, day) == DailyUsage(day, 198, 33.0)
        assert await ledger.spend(caller, DailyUsage(day, 2), DailyQuota(rows=200))
        assert not await ledger.spend(caller, DailyUsage(day, 1), DailyQuota(rows=200))
        assert not await ledger.spend(Caller("key:suite-day-large"), DailyUsage(day, 201), DailyQuota(rows=200))
        assert (await ledger.spent(Caller("key:suite-day-large"), day)).rows == 0


async def _work_ends_with_the_request_that_reaches_the_quota(make: LedgerFactory) -> None:
    """Work below the limit allows one more request; at the limit every request is refused, with work or without."""
    day, caller, quota = await _today(make, "work"), _caller("work"), DailyQuota(work=1.0)
    async with open_ledger(make) as ledger:
        granted = [await ledger.spend(caller, DailyUsage(day, 1, 0.4), quota) for _ in range(5)]
        assert granted == [True, True, True, False, False]
        assert not await ledger.spend(caller, DailyUsage(day, 1), quota)
        assert await ledger.spent(caller, day) == DailyUsage(day, 3, 0.4 + 0.4 + 0.4)
        assert await ledger.spend(caller, DailyUsage(day, 1, 0.4), _UNLIMITED)


async def _a_new_day_starts_at_zero_and_never_goes_back(make: LedgerFactory) -> None:
    """Usage with the number of an earlier day, from a clock that is behind, counts for the latest day."""
    day, caller, quota = await _today(make, "new"), _caller("new"), DailyQuota(rows=10)
    async with open_ledger(make) as ledger:
        assert await ledger.spend(caller, DailyUsage(day, 10, 1.0), quota)
        assert await ledger.spent(caller, day + 1) == DailyUsage(day + 1)
        assert await ledger.spend(caller, DailyUsage(day + 1, 6, 0.25), quota)
        assert not await ledger.spend(caller, DailyUsage(day, 6), quota)
        assert await ledger.spend(caller, DailyUsage(day, 4), quota)
        assert await ledger.spent(caller, day) == await ledger.spent(caller, day + 1) == DailyUsage(day + 1, 10, 0.25)


async def _usage_belongs_to_one_caller_and_is_no_account(make: LedgerFactory) -> None:
    """One caller's usage changes no other caller's, and neither a charge nor a reset changes it."""
    day, caller, other = await _today(make, "own"), _caller("own"), Caller("key:suite-day-OWN")
    async with open_ledger(make, caller, other) as ledger:
        await ledger.spend(caller, DailyUsage(day, 7), _UNLIMITED)
        await ledger.charge(caller, make_charge(1))
        assert await ledger.reset(caller, make_charge(1).model)
        assert await ledger.spent(caller, day) == DailyUsage(day, 7)
        assert (await ledger.spent(other, day)).rows == 0
        assert all(account.caller != caller for account in await ledger.largest(10_000))


async def _invalid_usage_is_refused(make: LedgerFactory) -> None:
    """Numbers that are negative, not finite or too large raise ``ValueError`` and change nothing."""
    day, caller = await _today(make, "invalid"), _caller("invalid")
    async with open_ledger(make) as ledger:
        for usage in (
            DailyUsage(-1),
            DailyUsage(day, -1),
            DailyUsage(day, 1, -1.0),
            DailyUsage(day, 1, float("nan")),
            DailyUsage(day, 2**53),
        ):
            try:
                await ledger.spend(caller, usage, _UNLIMITED)
            except ValueError:
                continue
            raise AssertionError(f"{usage} was accepted")
        assert await ledger.spent(caller, day) == DailyUsage(day)


async def _usage_is_shared_and_survives_a_reopen(make: LedgerFactory) -> None:
    """Two ledgers on one store grant one quota together; its usage is there again after closing and opening."""
    day, caller, quota = await _today(make, "shared"), _caller("shared"), DailyQuota(rows=70)
    async with open_ledger(make) as one, open_ledger(make) as other:
        requests = [ledger.spend(caller, DailyUsage(day, 1, 0.5), quota) for _ in range(50) for ledger in (one, other)]
        assert sum(await asyncio.gather(*requests)) == 70
    async with open_ledger(make) as ledger:
        assert await ledger.spent(caller, day) == DailyUsage(day, 70, 35.0)


QUOTA_CHECKS: tuple[LedgerCheck, ...] = (
    _rows_add_up_and_end_exactly_at_the_quota,
    _work_ends_with_the_request_that_reaches_the_quota,
    _a_new_day_starts_at_zero_and_never_goes_back,
    _usage_belongs_to_one_caller_and_is_no_account,
    _invalid_usage_is_refused,
)
QUOTA_PERSISTENCE_CHECKS: tuple[LedgerCheck, ...] = (_usage_is_shared_and_survives_a_reopen,)
