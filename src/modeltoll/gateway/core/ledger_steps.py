"""The steps of a gate that the ledger does, and what happens while it does not answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ParamSpec

from modeltoll.errors import LedgerError
from modeltoll.gateway.core.request import SHADOW, unknown_account

if TYPE_CHECKING:
    from modeltoll.evidence_records import EvidenceUpdate
    from modeltoll.gateway.core.request import GateConfig
    from modeltoll.ledger.ledger import Ledger
    from modeltoll.records import Account, Caller, Charge, LogEntry
    from modeltoll.settlement_records import Adjustment

__all__ = ["LedgerSteps"]

P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class LedgerSteps:
    """The steps of one model's gate. Each raises ``LedgerError`` unless the settings allow answers without the ledger."""

    ledger: Ledger
    config: GateConfig

    async def charge(self, caller: Caller, charge: Charge) -> tuple[Account, bool]:
        """Charge the caller's account. Returns the account, and False where the ledger does not answer."""
        try:
            return await self.ledger.charge(caller, charge), True
        except LedgerError:
            if not self.config.answers_without_ledger:
                raise
            return unknown_account(caller, charge), False

    async def bill(
        self, caller: Caller, entry: LogEntry, adjustment: Adjustment | None, updates: Sequence[EvidenceUpdate]
    ) -> bool:
        """Bill the request; False where the ledger does not answer."""
        try:
            await self.ledger.bill(caller, entry, adjustment, updates)
        except LedgerError:
            if not self.config.answers_without_ledger:
                raise
            return False
        return True

    async def with_quota(self, ask: Callable[P, Awaitable[None]], *args: P.args, **kwargs: P.kwargs) -> bool:
        """Call a method of the quotas, except in shadow mode; False where the ledger does not answer."""
        if self.config.mode == SHADOW:
            return True
        try:
            await ask(*args, **kwargs)
        except LedgerError:
            if not self.config.without_ledger:
                raise
            return False
        return True
