"""A ledger in memory that also appends a line to a file for each bill: ``journal:///var/log/bills.csv``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Self
from urllib.parse import SplitResult, unquote

from modeltoll.errors import LedgerError, SettingsError
from modeltoll.evidence_records import EvidenceUpdate
from modeltoll.ledger.memory import MemoryLedger
from modeltoll.ledger.registry import LedgerSpec
from modeltoll.records import Caller, LogEntry
from modeltoll.settlement_records import Adjustment


class JournalLedger(MemoryLedger):
    """Accounts of one process. The journal holds time, hashed caller, model, rows and reference seconds."""

    url_options: ClassVar[frozenset[str]] = frozenset()
    path = Path()

    @classmethod
    def from_url(cls, url: SplitResult, *, period: float, create: bool = True) -> Self:
        """The ledger that a URL names; ``create=False`` asks for one that is there already, which memory never is."""
        if url.netloc or not url.path.strip("/"):
            raise SettingsError(["ledger: write journal:///path/of/the/file.csv"])
        if not create:
            raise SettingsError(["ledger: the memory of another process cannot be looked into"])
        ledger = cls(period=period)
        ledger.path = Path(unquote(url.path))
        return ledger

    async def bill(
        self,
        caller: Caller,
        entry: LogEntry,
        adjustment: Adjustment | None = None,
        updates: Sequence[EvidenceUpdate] = (),
    ) -> None:
        """As the memory ledger's, and a line in the journal."""
        await super().bill(caller, entry, adjustment, updates)
        line = f"{entry.at:.3f},{self.logged_as(caller)},{entry.model},{entry.rows},{entry.work.seconds:.6f}\n"
        try:
            with self.path.open("a", encoding="utf-8") as journal:
                journal.write(line)
        except OSError as error:
            raise LedgerError("the journal cannot be written") from error


SPEC = LedgerSpec(("journal",), JournalLedger, shared=False)
