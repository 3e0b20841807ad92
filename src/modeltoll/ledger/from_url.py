"""Make a ledger from a URL, by the registry of ledgers."""

from __future__ import annotations

from contextlib import asynccontextmanager
from difflib import get_close_matches
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from modeltoll.errors import SettingsError
from modeltoll.evidence_records import EVIDENCE_SECONDS
from modeltoll.ledger.registry import LEDGERS
from modeltoll.ledger.similar_schemes import similar_scheme
from modeltoll.ledger.url_options import DAY, positive_number
from modeltoll.plugins import resolve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from urllib.parse import SplitResult

    from modeltoll.ledger.ledger import Ledger
    from modeltoll.ledger.registry import LedgerSpec, LedgerType

__all__ = ["ledger_from_url", "ledger_spec", "open_ledger"]


def ledger_spec(url: str) -> LedgerSpec:
    """What the registry says of the ledger that a URL names.

    Raises:
        SettingsError: the URL is malformed, or names no ledger that is known and usable.
    """
    return _spec(_split(url))


def ledger_from_url(url: str, *, create: bool = True) -> Ledger:
    """The ledger that a URL names, not yet opened: ``memory://``, ``sqlite:///relative.db``, ``sqlite:////absolute.db``.

    The option ``?period_days=90`` sets the period after which the evidence of an account starts anew. With ``create=False``, opening a ledger that
    does not exist fails; for commands that only read, so that a mistyped path creates nothing.

    Raises:
        SettingsError: the URL is malformed, of an unknown scheme, or has an unknown option.
    """
    parts = _split(url)
    spec = _spec(parts)
    try:
        store: type[LedgerType] = resolve(spec.store) if isinstance(spec.store, str) else spec.store
    except ModuleNotFoundError as error:
        raise SettingsError([f"ledger: {parts.scheme}:// needs {error.name}: pip install '{spec.install}'"]) from error
    except (ImportError, AttributeError) as error:
        what = LEDGERS.describe(parts.scheme)
        raise SettingsError(
            [f"{what}: its store {spec.store} cannot be used: {type(error).__name__}: {error}"]
        ) from error
    options = _options(parts, store.url_options | {"period_days"})
    return store.from_url(
        parts, period=positive_number(options, "period_days", EVIDENCE_SECONDS, unit=DAY), create=create
    )


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
    except ValueError:
        raise SettingsError(["ledger: this is not a URL; write for example sqlite:///ledger.db"]) from None
    if parts.scheme not in LEDGERS.names() or not url.startswith(f"{parts.scheme}://"):
        known = " or ".join(f"{scheme}://" for scheme in sorted(LEDGERS.names()))
        fault = similar_scheme(parts.scheme) or f"the URL must begin with {known}"
        raise SettingsError([f"ledger: {fault}"])
    if "@" in parts.query or "@" in parts.fragment:  # the rest of a password, which must not be shown
        raise SettingsError(["ledger: write %3F for a '?' and %23 for a '#' in a user's name or a password"])
    return parts


def _spec(parts: SplitResult) -> LedgerSpec:
    try:
        return LEDGERS.find(parts.scheme)
    except SettingsError as error:
        raise SettingsError([f"ledger: {fault}" for fault in error.faults]) from error


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
    faults = [f"ledger: unknown option {name!r}; {_suggested(name, known)}" for name in options.keys() - known]
    if len(given) > len(options):
        faults.append("ledger: an option is given twice; give it once")
    if url.fragment:
        faults.append("ledger: a '#' begins a fragment, which means nothing here; write %23 for a '#' in a name")
    if faults:
        raise SettingsError(sorted(faults))
    return options


def _suggested(name: str, known: frozenset[str]) -> str:
    """What may have been meant, else the options there are."""
    similar = get_close_matches(name, sorted(known), 3)
    return f"perhaps you mean {' or '.join(similar)}" if similar else f"known: {', '.join(sorted(known))}"
