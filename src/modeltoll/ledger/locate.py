"""Make a ledger from a URL. A new type of ledger is one module and one line in ``STORES``."""

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
    """The interface of a ledger class that ``ledger_from_url`` uses."""

    url_options: ClassVar[frozenset[str]]  # query options of its own, beside half_life_days

    @classmethod
    def from_url(cls, url: SplitResult, *, half_life: float, create: bool = True) -> Ledger:
        """The ledger of a URL whose options are all known. ``half_life`` is in seconds.

        Without ``create``, opening raises ``LedgerError`` if the ledger does not exist, and creates nothing.

        Raises:
            SettingsError: the URL is not valid for this type of ledger.
        """


def ledger_from_url(url: str, *, create: bool = True) -> Ledger:
    """The ledger that a URL names, not yet opened: ``memory://``, ``sqlite:///relative.db``, ``sqlite:////absolute.db``.

    The option ``?half_life_days=30`` sets the half-life of p-value counts. With ``create=False``, opening a ledger that
    does not exist fails; for commands that only read, so that a mistyped path creates nothing.

    Raises:
        SettingsError: the URL is malformed, of an unknown scheme, or has an unknown option.
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
    return store.from_url(
        parts, half_life=positive_number(options, "half_life_days", HALF_LIFE, unit=DAY), create=create
    )


@asynccontextmanager
async def open_ledger(url: str, *, create: bool = True) -> AsyncIterator[Ledger]:
    """The ledger of a URL, opened for the context and then closed. ``create`` as in ``ledger_from_url``.

    Raises:
        SettingsError: as ``ledger_from_url``.
        LedgerError: the ledger cannot be opened.
    """
    ledger = ledger_from_url(url, create=create)
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
