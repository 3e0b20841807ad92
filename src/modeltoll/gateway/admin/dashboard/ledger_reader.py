"""Bounded reads of the ledger: whoever looks at the dashboard, and however often, the gateway hardly notices."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from modeltoll.errors import LedgerError
from modeltoll.gateway.admin.dashboard.log_tail import LogReads, LogTailReader, TailLimits

if TYPE_CHECKING:
    from modeltoll.gateway.admin.dashboard.log_arrays import LogTail
    from modeltoll.records import Account, Caller

__all__ = ["ACCOUNTS", "LedgerReader", "LedgerReads", "LedgerSnapshot"]

T = TypeVar("T")

ACCOUNTS = 200  # those with the most work
_FRESH = 5.0  # seconds for which a reading is shown again
_PATIENCE = 5.0  # seconds that the ledger may take
_REST = (
    1000.0  # times as long as finding the largest accounts took, it is not done again: some ledgers look at all of them
)


class LedgerReads(LogReads, Protocol):
    """What the dashboard asks of a ledger; see ``Ledger``."""

    async def account(self, caller: Caller, model: str, at: float) -> Account | None:
        """One account with its counts faded to the time ``at``, or None where the caller is not known."""

    async def largest(self, limit: int, at: float) -> Sequence[Account]:
        """The callers' accounts with the most work issued, largest first."""

    def logged_as(self, caller: Caller) -> str:
        """The hash that stands for the caller in the log."""


@dataclass(frozen=True, slots=True, eq=False)
class LedgerSnapshot:
    """What the ledger said at the time ``at``: the end of its log, the accounts with the most work, and their hashes."""

    at: float
    tail: LogTail
    accounts: tuple[Account, ...]
    hashes: tuple[str, ...]


class LedgerReader:
    """Asks the ledger, one question at a time.

    ``clock`` gives seconds since the epoch, ``timer`` seconds since whenever; ``patience`` is in seconds.
    """

    def __init__(
        self,
        ledger: LedgerReads,
        clock: Callable[[], float],
        bounds: TailLimits | None = None,
        patience: float = _PATIENCE,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._follower = LogTailReader(ledger, bounds or TailLimits())
        self._patience = patience
        self._timer = timer
        self._turn = asyncio.Lock()
        self._latest: LedgerSnapshot | None = None
        self._accounts: tuple[Account, ...] = ()
        self._accounts_at, self._rest = -math.inf, 0.0

    async def read(self) -> LedgerSnapshot:
        """The latest reading, or a new one where that is some seconds old.

        Raises:
            LedgerError: the ledger does not answer, or not in time.
        """
        async with self._turn:
            now = self._clock()
            if self._latest is None or not 0.0 <= now - self._latest.at < _FRESH:
                self._latest = await self._in_time(self._read(now))
            return self._latest

    async def account(self, caller: Caller, model: str) -> Account | None:
        """One account as it is now. Raises as ``read`` does; ``ValueError`` where nobody can have such a name."""
        async with self._turn:
            return await self._in_time(self._ledger.account(caller, model, self._clock()))

    def logged_as(self, caller: Caller) -> str:
        """The hash that stands for the caller in the log."""
        return self._ledger.logged_as(caller)

    async def _read(self, now: float) -> LedgerSnapshot:
        tail = await self._follower.tail(now)
        if not 0.0 <= now - self._accounts_at < self._rest:
            begin = self._timer()
            self._accounts = tuple(await self._ledger.largest(ACCOUNTS, now))
            self._accounts_at, self._rest = now, _REST * (self._timer() - begin)
        hashes = tuple([self.logged_as(account.caller) for account in self._accounts])
        return LedgerSnapshot(now, tail, self._accounts, hashes)

    async def _in_time(self, answer: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self._patience):
                return await answer
        except TimeoutError:
            raise LedgerError("the ledger takes too long to answer") from None
