"""What callers may have in a day, counted in the ledger, so that all gateways agree on it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from modeltoll.errors import AllowanceSpent
from modeltoll.records import DailyUsage

if TYPE_CHECKING:
    from collections.abc import Callable

    from modeltoll.ledger.ledger import Ledger
    from modeltoll.records import Caller, DailyQuota

__all__ = ["DailyQuotas"]

_DAY = 86_400  # seconds


class DailyQuotas:
    """The allowances of one ledger's callers. ``clock`` gives seconds since the epoch; days begin at 00:00 UTC."""

    def __init__(self, ledger: Ledger, clock: Callable[[], float]) -> None:
        self._ledger = ledger
        self._clock = clock

    async def check(self, caller: Caller, rows: int) -> None:
        """Look whether so many rows may be had, before anybody works for them.

        Raises:
            AllowanceSpent: they may not. LedgerError: the ledger does not answer.
        """
        if caller.quota is None:
            return
        spent = await self._ledger.spent(caller, self._today())
        if not caller.quota.covers(spent, rows):
            raise self._refusal(caller.quota, spent, rows)

    async def take(self, caller: Caller, rows: int, work: float) -> None:
        """Take them, and ``work`` in reference seconds, in one step: of requests at the same time, only what is covered.

        Raises:
            AllowanceSpent, LedgerError: as ``check``; nothing was taken.
        """
        if caller.quota is None:
            return
        today = self._today()
        if not await self._ledger.spend(caller, DailyUsage(today, rows, work), caller.quota):
            raise self._refusal(caller.quota, await self._ledger.spent(caller, today), rows)

    def _today(self) -> int:
        return int(self._clock() // _DAY)

    def _refusal(self, allowance: DailyQuota, spent: DailyUsage, rows: int) -> AllowanceSpent:
        seconds = max(1, math.ceil((spent.day + 1) * _DAY - self._clock()))
        if allowance.work is not None and spent.work >= allowance.work:
            said = f"this day's {allowance.work:g} s of work are used up"
        else:
            most = allowance.rows or 0
            said = f"of this day's {most} rows {max(0, most - spent.rows)} are left, and the request has {rows}"
        return AllowanceSpent(f"{said}; a new day begins at 00:00 UTC", retry_after=seconds)
