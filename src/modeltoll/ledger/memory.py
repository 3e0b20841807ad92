"""The ledger of one process, for tests and for gateways that may forget everything when they stop."""

from __future__ import annotations

import secrets
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Self

from modeltoll.errors import LedgerError, SettingsError
from modeltoll.ledger import account_math
from modeltoll.records import Caller

if TYPE_CHECKING:
    from collections.abc import Sequence
    from urllib.parse import SplitResult

    from modeltoll.records import Account, Charge, DailyQuota, DailyUsage, LogEntry

__all__ = ["LOG_LINES", "MemoryLedger"]

LOG_LINES = 100_000


@dataclass(slots=True)
class _AccountPage:
    """An account and its sketch: the ring in the order of arrival, and the same fingerprints as a set."""

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
    """Accounts in a dictionary, for one event loop; each step is atomic since nothing in it waits.

    The log keeps its last ``LOG_LINES`` lines. Closing forgets nothing, losing the object forgets everything.
    ``half_life`` is in seconds; ``salt`` keys the callers' hashes in the log, 32 random bytes unless given.
    """

    url_options: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, *, half_life: float = account_math.HALF_LIFE, salt: bytes | None = None) -> None:
        self._half_life = half_life
        self._salt = secrets.token_bytes(32) if salt is None else salt
        self._pages: dict[tuple[str, str], _AccountPage] = {}
        self._days: dict[str, DailyUsage] = {}
        self._lines: deque[tuple[int, str, LogEntry]] = deque(maxlen=LOG_LINES)
        self._written = 0
        self._open = False

    @classmethod
    def from_url(cls, url: SplitResult, *, half_life: float, make: bool = True) -> Self:
        """``memory://``.

        Raises:
            SettingsError: anything follows the two slashes, or it should be there already.
        """
        if url.netloc or url.path:
            raise SettingsError(["ledger: a memory ledger has no name; write memory:// and nothing else"])
        if not make:
            raise SettingsError(
                ["ledger: the memory of another process cannot be looked into; name a ledger that lasts"]
            )
        return cls(half_life=half_life)

    async def open(self) -> None:
        """See ``Ledger.open``; nothing can fail."""
        self._open = True

    async def close(self) -> None:
        """See ``Ledger.close``."""
        self._open = False

    async def charge(self, caller: Caller, entry: Charge) -> Account:
        """See ``Ledger.charge``; raises ``ValueError`` for an entry that would spoil the account."""
        account_math.check_charge(caller, entry)
        pages = self._opened()
        own, *shared = [self._charge(pages, party, entry) for party in account_math.affected_accounts(caller)]
        return account_math.with_groups(own, shared)

    def _charge(self, pages: dict[tuple[str, str], _AccountPage], caller: Caller, entry: Charge) -> Account:
        key = caller.name, entry.model
        page = pages.get(key)
        if page is None:
            account, fresh = account_math.charge(None, caller, entry, (), self._half_life)
            page = pages[key] = _AccountPage(account)
        else:
            page.account, fresh = account_math.charge(page.account, caller, entry, page.seen, self._half_life)
        page.learn(fresh)
        return page.account

    async def bill(self, caller: Caller, bill: LogEntry) -> None:
        """See ``Ledger.bill``; raises ``ValueError`` for a bill that would spoil the account."""
        account_math.check_log_entry(caller, bill)
        page = self._opened().get((caller.name, bill.model))
        if page is not None:
            page.account = replace(page.account, work=page.account.work + bill.work.seconds)
        self._written += 1
        self._lines.append((self._written, self.logged_as(caller), bill))

    async def spend(self, caller: Caller, more: DailyUsage, quota: DailyQuota) -> bool:
        """See ``Ledger.spend``."""
        account_math.check_usage(caller, more)
        self._opened()
        after = account_math.spend(self._days.get(caller.name), more, quota)
        if after is not None:
            self._days[caller.name] = after
        return after is not None

    async def spent(self, caller: Caller, day: int) -> DailyUsage:
        """See ``Ledger.spent``."""
        self._opened()
        return account_math.usage_on(self._days.get(caller.name), day)

    async def account(self, caller: Caller, model: str, at: float) -> Account | None:
        """See ``Ledger.account``."""
        account_math.check_names(caller, model)
        pages = self._opened()
        own, *shared = [
            self._read(pages.get((party.name, model)), party, at) for party in account_math.affected_accounts(caller)
        ]
        return None if own is None else account_math.with_groups(own, shared)

    def _read(self, page: _AccountPage | None, caller: Caller, at: float) -> Account | None:
        return None if page is None else replace(account_math.decayed(page.account, at, self._half_life), caller=caller)

    async def largest(self, limit: int, at: float) -> Sequence[Account]:
        """See ``Ledger.largest``."""
        accounts = [page.account for page in self._opened().values() if not page.account.caller.is_group]
        accounts.sort(key=lambda account: (-account.work, account.caller.name, account.model))
        found = [replace(account, caller=Caller(account.caller.name)) for account in accounts[: max(0, limit)]]
        return [account_math.decayed(account, at, self._half_life) for account in found]

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
        return self._opened().pop((caller.name, model), None) is not None

    def _opened(self) -> dict[tuple[str, str], _AccountPage]:
        if not self._open:
            raise LedgerError("the ledger is not open")
        return self._pages
