"""Bounded and cached reads of the ledger, so that the dashboard puts little load on it."""

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
    from modeltoll.settlement_records import Standing

__all__ = ["MAX_ACCOUNTS", "LedgerReader", "LedgerReads", "LedgerSnapshot"]

T = TypeVar("T")

MAX_ACCOUNTS = 200  # number of accounts read, those with the most work
_MAX_AGE = 5.0  # seconds for which a snapshot is reused
_TIMEOUT = 5.0  # seconds that one read may take
_PAUSE_FACTOR = (
    1000.0  # the largest accounts are not read again for this many times the seconds it took: some ledgers scan all
)


class LedgerReads(LogReads, Protocol):
    """The methods of ``Ledger`` that the dashboard calls."""

    async def account(self, caller: Caller, model: str) -> Account | None:
        """One account, or None."""

    async def standing(self, caller: Caller) -> Standing:
        """What the caller owes and has paid, over all models."""

    async def largest(self, limit: int) -> Sequence[Account]:
        """The accounts of callers with the most work issued, largest first."""

    def logged_as(self, caller: Caller) -> str:
        """The caller's hash in the log."""


@dataclass(frozen=True, slots=True, eq=False)
class LedgerSnapshot:
    """The ledger at the time ``at`` (seconds since the epoch): the tail of its log, the largest accounts, their hashes."""

    at: float
    tail: LogTail
    accounts: tuple[Account, ...]
    hashes: tuple[str, ...]


class LedgerReader:
    """Reads the ledger, one read at a time.

    ``clock`` returns seconds since the epoch, ``timer`` monotonic seconds; ``timeout`` is in seconds.
    """

    def __init__(
        self,
        ledger: LedgerReads,
        clock: Callable[[], float],
        limits: TailLimits | None = None,
        timeout: float = _TIMEOUT,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._tail_reader = LogTailReader(ledger, limits or TailLimits())
        self._timeout = timeout
        self._timer = timer
        self._lock = asyncio.Lock()
        self._latest: LedgerSnapshot | None = None
        self._accounts: tuple[Account, ...] = ()
        self._accounts_at, self._pause = -math.inf, 0.0

    async def read(self) -> LedgerSnapshot:
        """The latest snapshot, or a new one if that is older than 5 seconds.

        Raises:
            LedgerError: the ledger does not answer, or not within the timeout.
        """
        async with self._lock:
            now = self._clock()
            if self._latest is None or not 0.0 <= now - self._latest.at < _MAX_AGE:
                self._latest = await self._with_timeout(self._read(now))
            return self._latest

    async def account(self, caller: Caller, model: str) -> Account | None:
        """One account as it is now. Raises as ``read`` does, and ``ValueError`` for an invalid name."""
        async with self._lock:
            return await self._with_timeout(self._ledger.account(caller, model))

    async def standing(self, caller: Caller) -> Standing:
        """What the caller owes and has paid, as it is now. Raises as ``read`` does."""
        async with self._lock:
            return await self._with_timeout(self._ledger.standing(caller))

    def logged_as(self, caller: Caller) -> str:
        """The caller's hash in the log."""
        return self._ledger.logged_as(caller)

    async def _read(self, now: float) -> LedgerSnapshot:
        tail = await self._tail_reader.tail(now)
        if not 0.0 <= now - self._accounts_at < self._pause:
            start = self._timer()
            self._accounts = tuple(await self._ledger.largest(MAX_ACCOUNTS))
            self._accounts_at, self._pause = now, _PAUSE_FACTOR * (self._timer() - start)
        hashes = tuple([self.logged_as(account.caller) for account in self._accounts])
        return LedgerSnapshot(now, tail, self._accounts, hashes)

    async def _with_timeout(self, answer: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self._timeout):
                return await answer
        except TimeoutError:
            raise LedgerError("the ledger takes too long to answer") from None
