"""Enforces the daily quotas of callers. Usage is counted in the ledger, which all gateways share."""

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
    """The quotas of one ledger's callers. ``clock`` gives seconds since the epoch; days begin at 00:00 UTC."""

    def __init__(self, ledger: Ledger, clock: Callable[[], float]) -> None:
        self._ledger = ledger
        self._clock = clock

    async def check(self, caller: Caller, rows: int) -> None:
        """Check, before any work is done, that the caller's quota covers ``rows`` more rows today.

        Raises:
            AllowanceSpent: the quota does not cover them. LedgerError: the ledger does not answer.
        """
        if caller.quota is None:
            return
        spent = await self._ledger.spent(caller, self._today())
        if not caller.quota.covers(spent, rows):
            raise self._refusal(caller.quota, spent, rows)

    async def spend(self, caller: Caller, rows: int, work: float) -> None:
        """Add rows, and ``work`` in reference seconds, to today's usage in one atomic step.

        Raises:
            AllowanceSpent, LedgerError: as ``check``; nothing was added.
        """
        if caller.quota is None:
            return
        today = self._today()
        if not await self._ledger.spend(caller, DailyUsage(today, rows, work), caller.quota):
            raise self._refusal(caller.quota, await self._ledger.spent(caller, today), rows)

    def _today(self) -> int:
        return int(self._clock() // _DAY)

    def _refusal(self, quota: DailyQuota, spent: DailyUsage, rows: int) -> AllowanceSpent:
        seconds = max(1, math.ceil((spent.day + 1) * _DAY - self._clock()))
        if quota.work is not None and spent.work >= quota.work:
            reason = f"this day's {quota.work:g} s of work are used up"
        else:
            limit = quota.rows or 0
            reason = f"of this day's {limit} rows {max(0, limit - spent.rows)} are left, and the request has {rows}"
        return AllowanceSpent(f"{reason}; a new day begins at 00:00 UTC", retry_after=seconds)
