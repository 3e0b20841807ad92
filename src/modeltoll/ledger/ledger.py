"""The protocol of ledgers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modeltoll.evidence_records import EvidenceUpdate
    from modeltoll.records import Account, Caller, Charge, DailyQuota, DailyUsage, LogEntry
    from modeltoll.settlement_records import Adjustment, Admission, Receipt, Reservation, Standing

__all__ = ["Ledger"]


class Ledger(Protocol):
    """The shared store of callers' accounts, daily usage and the log. Every change is one atomic step."""

    async def open(self) -> None:
        """Connect, and create or migrate the store.

        Raises:
            LedgerError: the store cannot be reached or written, or has an unknown version.
        """

    async def close(self) -> None:
        """Close the store; nothing that was acknowledged is lost."""

    async def check_writable(self) -> None:
        """Write something that changes nothing, to see whether the store can be written.

        Raises:
            LedgerError: the store is not open, cannot be written, or is another one than when it was opened.
        """

    async def charge(self, caller: Caller, charge: Charge) -> Account:
        """Add a charge to the accounts of the caller and of its groups, and return them afterwards, in one atomic step.

        Rows whose fingerprint is in an account's sketch are not counted in that account. A block of the evidence ends with
        the charge in which it reaches its rows.

        Raises:
            LedgerError: the charge may or may not have been written; the answer must not be released.
            ValueError: the charge is invalid (see ``account_math.check_charge``) and was not written.
        """

    async def settle(
        self, caller: Caller, receipts: Sequence[Receipt], reservation: Reservation | None, at: float
    ) -> Admission:
        """Count receipts, and reserve a request's seconds if they fit, in one atomic step (``settlement_math.settle``).

        A receipt whose identity was counted before, or that has expired at the time ``at``, changes nothing. Without a
        reservation the result is admitted, with nothing reserved. Nothing is stored of an unknown caller that is not
        admitted.

        Raises:
            LedgerError: the receipts may or may not have been counted, the reservation may or may not have been made.
            ValueError: an argument is invalid (see ``settlement_math.check_settlement``); nothing was written.
        """

    async def adjust(self, caller: Caller, adjustment: Adjustment) -> None:
        """Change the caller's standing, in one atomic step (``settlement_math.adjust``).

        Raises:
            LedgerError: it may or may not have been changed.
        """

    async def standing(self, caller: Caller) -> Standing:
        """What the caller owes and has paid, as stored: not drained since the last reservation."""

    def derived_key(self, purpose: str) -> bytes:
        """A secret of 32 bytes for one purpose, the same for all gateways of this ledger, which must be open."""

    async def bill(
        self,
        caller: Caller,
        entry: LogEntry,
        adjustment: Adjustment | None = None,
        updates: Sequence[EvidenceUpdate] = (),
    ) -> None:
        """Add the issued work to the caller's account and an entry to the log, adjust and update, in one atomic step.

        ``updates``: of the evidence of the caller's and its groups' accounts. If an account does not exist (never charged,
        or reset since), nothing of it is written.

        Raises:
            LedgerError: the entry may or may not have been written.
            ValueError: the entry is invalid (see ``account_math.check_log_entry``) and was not written.
        """

    async def spend(self, caller: Caller, more: DailyUsage, quota: DailyQuota) -> bool:
        """Add ``more`` to the caller's usage of the day if the quota covers it, in one atomic step; returns whether.

        A later day starts at zero. Usage of an earlier day counts in the latest one.

        Raises:
            LedgerError: the usage may or may not have been written.
            ValueError: the usage is invalid (see ``account_math.check_usage``) and was not written.
        """

    async def spent(self, caller: Caller, day: int) -> DailyUsage:
        """The caller's usage on a day, or on the latest stored day if that is later."""

    async def account(self, caller: Caller, model: str) -> Account | None:
        """The caller's account with those of its groups; None if there is none."""

    async def largest(self, limit: int) -> Sequence[Account]:
        """The callers' accounts with the most work issued, largest first, without accounts of groups.

        Their ``caller`` has a name only: the ledger does not store tiers, groups and discounts.
        """

    async def log(self, after: int, limit: int) -> Sequence[tuple[int, str, LogEntry]]:
        """A page of the log: (line number, hashed caller, entry) for line numbers above ``after``, ascending."""

    def logged_as(self, caller: Caller) -> str:
        """The caller's pseudonym in the log of this ledger, which must be open."""

    async def reset(self, caller: Caller, model: str) -> bool:
        """Delete an account, its sketch and the caller's standing; returns whether the account existed.

        Log, groups, daily usage and the identities of counted receipts stay.
        """
