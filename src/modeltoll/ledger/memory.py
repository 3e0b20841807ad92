"""The ledger of one process, in memory: for tests and for gateways that need no persistence."""

from __future__ import annotations

import secrets
from collections import deque
from dataclasses import dataclass, field, replace
from itertools import islice, takewhile
from typing import TYPE_CHECKING, ClassVar, Self, TypeVar

from modeltoll.errors import LedgerError, SettingsError
from modeltoll.evidence_records import EVIDENCE_SECONDS
from modeltoll.ledger import account_math, settlement_math
from modeltoll.ledger.retention import KEEP_LOG_DAYS, MAX_LINES_AT_ONCE, Retention
from modeltoll.ledger.url_options import read_options
from modeltoll.records import Caller
from modeltoll.settlement_records import Standing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from urllib.parse import SplitResult

    from modeltoll.evidence_records import EvidenceUpdate
    from modeltoll.ledger.retention import Sweep
    from modeltoll.records import Account, Charge, DailyQuota, DailyUsage, LogEntry
    from modeltoll.settlement_records import Adjustment, Admission, Receipt, Reservation

__all__ = ["LOG_LINES", "MemoryLedger"]

K = TypeVar("K")
V = TypeVar("V")

LOG_LINES = 100_000


@dataclass(slots=True)
class _AccountPage:
    """An account and its sketch: a ring in order of arrival, and the same fingerprints as a set."""

    account: Account
    ring: deque[bytes] = field(default_factory=lambda: deque(maxlen=account_math.SKETCH_SIZE))
    seen: set[bytes] = field(default_factory=set)

    def learn(self, fresh: tuple[bytes, ...]) -> None:
        for fingerprint in fresh:
            if len(self.ring) == account_math.SKETCH_SIZE:
                self.seen.discard(self.ring[0])
            self.ring.append(fingerprint)
            self.seen.add(fingerprint)


class MemoryLedger:
    """Accounts in a dictionary, for one event loop. Each step is atomic because it does not await.

    The log keeps the last ``LOG_LINES`` lines at most. Data survives ``close`` but not the object. ``period``: seconds
    after which the evidence of an account starts anew. ``salt`` keys the pseudonyms in the log and the derived keys, 32
    random bytes by default.
    """

    url_options: ClassVar[frozenset[str]] = frozenset({KEEP_LOG_DAYS})

    def __init__(
        self,
        *,
        period: float = EVIDENCE_SECONDS,
        salt: bytes | None = None,
        retention: Retention | None = None,
    ) -> None:
        self._period = period
        self._salt = secrets.token_bytes(32) if salt is None else salt
        self._retention = retention or Retention()
        # The entries of these dictionaries are in the order in which they were last changed.
        self._pages: dict[tuple[str, str], _AccountPage] = {}
        self._standings: dict[str, Standing] = {}
        self._receipts: dict[bytes, float] = {}  # counted ones, and when they expire
        self._days: dict[str, DailyUsage] = {}
        self._lines: deque[tuple[int, str, LogEntry]] = deque(maxlen=LOG_LINES)
        self._written = 0
        self._open = False

    @classmethod
    def from_url(cls, url: SplitResult, *, period: float, create: bool = True) -> Self:
        """For ``memory://``.

        Raises:
            SettingsError: the URL has more than the scheme, or ``create`` is False.
        """
        if url.netloc or url.path:
            raise SettingsError(["ledger: a memory ledger has no name; write memory:// and nothing else"])
        if not create:
            raise SettingsError(["ledger: the memory of another process cannot be read; name a ledger that is stored"])
        return cls(period=period, retention=Retention.from_options(read_options(url)))

    async def open(self) -> None:
        """See ``Ledger.open``; nothing can fail."""
        self._open = True

    async def close(self) -> None:
        """See ``Ledger.close``."""
        self._open = False

    async def check_writable(self) -> None:
        """See ``Ledger.check_writable``; it can be written while it is open."""
        self._opened()

    async def charge(self, caller: Caller, charge: Charge) -> Account:
        """See ``Ledger.charge``."""
        account_math.check_charge(caller, charge)
        pages = self._opened()
        own, *groups = [self._charge(pages, owner, charge) for owner in account_math.affected_accounts(caller)]
        return account_math.with_groups(own, groups)

    def _charge(self, pages: dict[tuple[str, str], _AccountPage], caller: Caller, charge: Charge) -> Account:
        key = caller.name, charge.model
        page = pages.pop(key, None)
        if page is None:
            account, fresh = account_math.charge(None, caller, charge, (), self._period)
            page = _AccountPage(account)
        else:
            page.account, fresh = account_math.charge(page.account, caller, charge, page.seen, self._period)
        pages[key] = page
        page.learn(fresh)
        return page.account

    async def settle(
        self, caller: Caller, receipts: Sequence[Receipt], reservation: Reservation | None, at: float
    ) -> Admission:
        """See ``Ledger.settle``."""
        settlement_math.check_settlement(caller, receipts, reservation, at)
        self._opened()
        keys = {
            settlement_math.receipt_key(caller, receipt.identity): receipt
            for receipt in settlement_math.unexpired(receipts, at)
        }
        fresh = {key: receipt for key, receipt in keys.items() if key not in self._receipts}
        before = self._standings.get(caller.name)
        after, admission = settlement_math.settle(before, tuple(fresh.values()), reservation, at)
        if after is not None:
            self._store_standing(caller, after)
        self._receipts.update((key, receipt.expires) for key, receipt in fresh.items())
        return admission

    async def adjust(self, caller: Caller, adjustment: Adjustment) -> None:
        """See ``Ledger.adjust``."""
        settlement_math.check_adjustment(caller, adjustment)
        self._opened()
        self._store_standing(caller, settlement_math.adjust(self._standings.get(caller.name), adjustment))

    async def standing(self, caller: Caller) -> Standing:
        """See ``Ledger.standing``."""
        self._opened()
        return self._standings.get(caller.name, Standing())

    def derived_key(self, purpose: str) -> bytes:
        """See ``Ledger.derived_key``."""
        self._opened()
        return account_math.derived_key(purpose, self._salt)

    async def bill(
        self,
        caller: Caller,
        entry: LogEntry,
        adjustment: Adjustment | None = None,
        updates: Sequence[EvidenceUpdate] = (),
    ) -> None:
        """See ``Ledger.bill``."""
        account_math.check_log_entry(caller, entry)
        account_math.check_updates(caller, updates)
        if adjustment is not None:
            settlement_math.check_adjustment(caller, adjustment)
        pages = self._opened()
        page = pages.get((caller.name, entry.model))
        if page is not None:
            page.account = page.account.with_work(page.account.work + entry.work.seconds)
        for update in updates:
            page = pages.get((update.account, entry.model))
            if page is not None:
                page.account = account_math.updated(page.account, update)
        if adjustment is not None:
            self._store_standing(caller, settlement_math.adjust(self._standings.get(caller.name), adjustment))
        self._written += 1
        self._lines.append((self._written, self.logged_as(caller), entry))
        if (sweep := self._retention.sweep(entry.at)) is not None:
            self._retention.swept(more=self._sweep(sweep))

    async def spend(self, caller: Caller, more: DailyUsage, quota: DailyQuota) -> bool:
        """See ``Ledger.spend``."""
        account_math.check_usage(caller, more)
        self._opened()
        after = account_math.spend(self._days.get(caller.name), more, quota)
        if after is not None:
            self._days.pop(caller.name, None)
            self._days[caller.name] = after
        return after is not None

    async def spent(self, caller: Caller, day: int) -> DailyUsage:
        """See ``Ledger.spent``."""
        self._opened()
        return account_math.usage_on(self._days.get(caller.name), day)

    async def account(self, caller: Caller, model: str) -> Account | None:
        """See ``Ledger.account``."""
        account_math.check_names(caller, model)
        pages = self._opened()
        found = [(pages.get((owner.name, model)), owner) for owner in account_math.affected_accounts(caller)]
        own, *groups = [None if page is None else replace(page.account, caller=owner) for page, owner in found]
        return None if own is None else account_math.with_groups(own, groups)

    async def largest(self, limit: int) -> Sequence[Account]:
        """See ``Ledger.largest``."""
        accounts = [page.account for page in self._opened().values() if not page.account.caller.is_group]
        accounts.sort(key=lambda account: (-account.work, account.caller.name, account.model))
        return [replace(account, caller=Caller(account.caller.name)) for account in accounts[: max(0, limit)]]

    async def log(self, after: int, limit: int) -> Sequence[tuple[int, str, LogEntry]]:
        """See ``Ledger.log``."""
        self._opened()
        return [line for line in self._lines if line[0] > after][: max(0, limit)]

    def logged_as(self, caller: Caller) -> str:
        """See ``Ledger.logged_as``."""
        return account_math.hashed_name(caller, self._salt)

    async def reset(self, caller: Caller, model: str) -> bool:
        """See ``Ledger.reset``."""
        account_math.check_names(caller, model)
        pages = self._opened()
        self._standings.pop(caller.name, None)
        return pages.pop((caller.name, model), None) is not None

    def _store_standing(self, caller: Caller, standing: Standing) -> None:
        self._standings.pop(caller.name, None)
        self._standings[caller.name] = standing

    def _sweep(self, sweep: Sweep) -> bool:
        """Delete what is too old; returns whether there may be more of it."""
        lines = 0
        while sweep.lines_before is not None and len(self._lines) > 1 and self._lines[0][2].at < sweep.lines_before:
            self._lines.popleft()
            lines += 1
        deleted = (
            lines,
            _delete_oldest(self._pages, lambda page: page.account.last_seen < sweep.untouched_since),
            _delete_oldest(self._standings, lambda standing: standing.drained < sweep.untouched_since),
            _delete_oldest(self._receipts, lambda expires: expires < sweep.expired_before),
            _delete_oldest(self._days, lambda usage: usage.day < sweep.days_before),
        )
        return max(deleted) >= MAX_LINES_AT_ONCE

    def _opened(self) -> dict[tuple[str, str], _AccountPage]:
        if not self._open:
            raise LedgerError("the ledger is not open")
        return self._pages


def _delete_oldest(entries: dict[K, V], is_old: Callable[[V], bool]) -> int:
    """Delete the first entries while they are old, ``MAX_LINES_AT_ONCE`` at most; returns how many."""
    keys = [key for key, _ in takewhile(lambda entry: is_old(entry[1]), islice(entries.items(), MAX_LINES_AT_ONCE))]
    for key in keys:
        del entries[key]
    return len(keys)
