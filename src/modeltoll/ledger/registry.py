"""All ledgers by the schemes of their URLs. A new one is one file and one line here, or an entry point for each scheme
in the group ``modeltoll.ledgers``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

from modeltoll.plugins import Registry

if TYPE_CHECKING:
    from urllib.parse import SplitResult

    from modeltoll.ledger.ledger import Ledger

__all__ = ["LEDGERS", "LedgerSpec", "LedgerType"]


class LedgerType(Protocol):
    """What a ledger's class offers so that a URL can name it."""

    url_options: ClassVar[frozenset[str]]  # query options of its own, beside period_days

    @classmethod
    def from_url(cls, url: SplitResult, *, period: float, create: bool = True) -> Ledger:
        """The ledger at a URL whose options are all known. Raises ``SettingsError``.

        ``period``: seconds after which the evidence of an account starts anew.

        Without ``create``, opening raises ``LedgerError`` where there is no ledger yet, and leaves nothing behind.
        """


@dataclass(frozen=True, slots=True)
class LedgerSpec:
    """What is known of a ledger before its module is imported.

    ``store`` is a ``LedgerType``, or "package.module:name" of one. ``install`` is what to install where a module that it
    imports is missing. ``shared`` says whether several processes can use one ledger.
    """

    schemes: tuple[str, ...]
    store: str | type[LedgerType]
    install: str = "modeltoll[gateway]"
    shared: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        """The schemes."""
        return self.schemes


LEDGERS: Registry[LedgerSpec] = Registry(
    "ledger",
    "modeltoll.ledgers",
    LedgerSpec,
    (
        LedgerSpec(("memory",), "modeltoll.ledger.memory:MemoryLedger", shared=False),
        LedgerSpec(("postgresql", "postgres"), "modeltoll.ledger.postgres:PostgresLedger", "modeltoll[postgres]"),
        LedgerSpec(("sqlite",), "modeltoll.ledger.sqlite:SqliteLedger"),
        LedgerSpec(
            ("valkey", "valkeys", "redis", "rediss", "unix"),
            "modeltoll.ledger.valkey:ValkeyLedger",
            "modeltoll[valkey]",
        ),
    ),
)
