"""From a URL to a ledger. A new store is one file and one line in ``STORES``."""

from __future__ import annotations

from contextlib import asynccontextmanager
from importlib import import_module
from typing import TYPE_CHECKING, ClassVar, Protocol
from urllib.parse import parse_qsl, urlsplit

from modeltoll.errors import SettingsError
from modeltoll.ledger.account_math import HALF_LIFE
from modeltoll.ledger.url_options import DAY, positive_number

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from urllib.parse import SplitResult

    from modeltoll.ledger.ledger import Ledger

__all__ = ["STORES", "LedgerType", "ledger_from_url", "open_ledger"]

STORES = {
    "memory": "modeltoll.ledger.memory:MemoryLedger",
    "postgresql": "modeltoll.ledger.postgres:PostgresLedger",
    "redis": "modeltoll.ledger.valkey:ValkeyLedger",
    "rediss": "modeltoll.ledger.valkey:ValkeyLedger",
    "sqlite": "modeltoll.ledger.sqlite:SqliteLedger",
    "valkey": "modeltoll.ledger.valkey:ValkeyLedger",
    "valkeys": "modeltoll.ledger.valkey:ValkeyLedger",
}
_EXTRAS = {"psycopg": "postgres", "redis": "valkey"}  # what to install for which module


class LedgerType(Protocol):
    """What a ledger's class offers so that a URL can name it."""

    url_options: ClassVar[frozenset[str]]  # query options of its own, beside half_life_days

    @classmethod
    def from_url(cls, url: SplitResult, *, half_life: float, make: bool = True) -> Ledger:
        """The ledger at a URL whose options are all known; ``half_life`` is in seconds. Raises ``SettingsError``.

        Without ``make``, opening raises ``LedgerError`` where there is no ledger yet, and leaves nothing behind.
        """


def ledger_from_url(url: str, *, make: bool = True) -> Ledger:
    """The ledger that a URL names, not yet opened: ``memory://``, ``sqlite:///relative.db``, ``sqlite:////absolute.db``.

    The option ``?half_life_days=30`` says how fast p-value counts fade. Who only looks at a ledger says so by ``make``:
    False makes none where there is none, as at the end of a mistyped path.

    Raises:
        SettingsError: the URL is malformed, names no store that is known, or has an option that is not.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        raise SettingsError(["ledger: this is not a URL; write for example sqlite:///ledger.db"]) from None
    if parts.scheme not in STORES or not url.startswith(f"{parts.scheme}://"):
        known = " or ".join(f"{scheme}://" for scheme in sorted(STORES))
        raise SettingsError([f"ledger: the URL must begin with {known}"])
    module, _, name = STORES[parts.scheme].partition(":")
    try:
        store: LedgerType = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get(error.name or "", "gateway")
        raise SettingsError(
            [f"ledger: {parts.scheme}:// needs {error.name}: pip install 'modeltoll[{extra}]'"]
        ) from error
    options = _options(parts, store.url_options | {"half_life_days"})
    return store.from_url(parts, half_life=positive_number(options, "half_life_days", HALF_LIFE, unit=DAY), make=make)


@asynccontextmanager
async def open_ledger(url: str, *, make: bool = True) -> AsyncIterator[Ledger]:
    """The ledger that a URL names, open within the block and closed at its end.

    Raises:
        SettingsError: as ``ledger_from_url``. LedgerError: the ledger cannot be opened.
    """
    ledger = ledger_from_url(url, make=make)
    await ledger.open()
    try:
        yield ledger
    finally:
        await ledger.close()


def _options(url: SplitResult, known: frozenset[str]) -> dict[str, str]:
    given = parse_qsl(url.query, keep_blank_values=True)
    options = dict(given)
    faults = [f"ledger: unknown option {name!r}; known: {', '.join(sorted(known))}" for name in options.keys() - known]
    if len(given) > len(options):
        faults.append("ledger: an option is given twice; give it once")
    if url.fragment:
        faults.append("ledger: a '#' begins a fragment, which means nothing here; write %23 for a '#' in a name")
    if faults:
        raise SettingsError(sorted(faults))
    return options
