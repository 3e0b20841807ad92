"""The plug of the ledger room."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modeltoll.records import Account, Caller, Charge, DailyQuota, DailyUsage, LogEntry

__all__ = ["Ledger"]


class Ledger(Protocol):
    """What the gateways remember of their callers. Every change is one atomic step."""

    async def open(self) -> None:
        """Connect, and create or migrate the store.

        Raises:
            LedgerError: the store cannot be reached, written, or is of a version that is not understood.
        """

    async def close(self) -> None:
        """Let go of the store; nothing that was acknowledged is lost."""

    async def charge(self, caller: Caller, entry: Charge) -> Account:
        """Add an entry to the accounts of the caller and of his groups, and return them after it, in one atomic step.

        Counts fade by age first; rows whose fingerprint is in an account's sketch are not counted in that account.

        Raises:
            LedgerError: the entry may or may not have been written; nothing may be released on it.
            ValueError: the entry would spoil the account (see ``book.check_entry``); it was not written.
        """

    async def bill(self, caller: Caller, bill: LogEntry) -> None:
        """Add the issued work to the account and a line to the log, in one atomic step.

        Where the account is not known (never charged, or reset since) the line is all that is written.

        Raises:
            LedgerError, ValueError: as for ``charge``.
        """

    async def spend(self, caller: Caller, more: DailyUsage, quota: DailyQuota) -> bool:
        """Add to what the caller has had of his day, where the quota covers it, in one atomic step; else False.

        A later day starts from nothing; what is spent on a day that is over already counts in the latest one.

        Raises:
            LedgerError: it may or may not have been written. ValueError: it would spoil the store.
        """

    async def spent(self, caller: Caller, day: int) -> DailyUsage:
        """What the caller has had of a day, or of the latest one where that is later."""

    async def account(self, caller: Caller, model: str, at: float) -> Account | None:
        """One account with its groups', counts faded to the time ``at``, or None where the caller is not known."""

    async def largest(self, limit: int, at: float) -> Sequence[Account]:
        """The callers' accounts with the most work issued, largest first, without groups.

        What a caller's tier, his groups and his discount are, is not known here.
        """

    async def log(self, after: int, limit: int) -> Sequence[tuple[int, str, LogEntry]]:
        """A page of the log: (line number, hashed caller, bill) for line numbers above ``after``, ascending."""

    def logged_as(self, caller: Caller) -> str:
        """The hash that stands for the caller in the log of this ledger, which is open."""

    async def reset(self, caller: Caller, model: str) -> bool:
        """Forget an account and its sketch; log, groups and days stay. False where it was not known."""
