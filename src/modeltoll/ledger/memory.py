"""The ledger of one process, in memory: for tests and for gateways that need no persistence."""

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

    The log keeps the last ``LOG_LINES`` lines. Data survives ``close`` but not the object. ``half_life`` is in seconds;
    ``salt`` keys the pseudonyms in the log, 32 random bytes by default.
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
    def from_url(cls, url: SplitResult, *, half_life: float, create: bool = True) -> Self:
        """For ``memory://``.

        Raises:
            SettingsError: the URL has more than the scheme, or ``create`` is False.
        """
        if url.netloc or url.path:
            raise SettingsError(["ledger: a memory ledger has no name; write memory:// and nothing else"])
        if not create:
            raise SettingsError(["ledger: the memory of another process cannot be read; name a ledger that is stored"])
        return cls(half_life=half_life)

    async def open(self) -> None:
        """See ``Ledger.open``; nothing can fail."""
        self._open = True

    async def close(self) -> None:
        """See ``Ledger.close``."""
        self._open = False

    async def charge(self, caller: Caller, charge: Charge) -> Account:
        """See ``Ledger.charge``."""
        account_math.check_charge(caller, charge)
        pages = self._opened()
        own, *groups = [self._charge(pages, owner, charge) for owner in account_math.affected_accounts(caller)]
        return account_math.with_groups(own, groups)

    def _charge(self, pages: dict[tuple[str, str], _AccountPage], caller: Caller, charge: Charge) -> Account:
        key = caller.name, charge.model
        page = pages.get(key)
        if page is None:
            account, fresh = account_math.charge(None, caller, charge, (), self._half_life)
            page = pages[key] = _AccountPage(account)
        else:
            page.account, fresh = account_math.charge(page.account, caller, charge, page.seen, self._half_life)
        page.learn(fresh)
        return page.account

    async def bill(self, caller: Caller, entry: LogEntry) -> None:
        """See ``Ledger.bill``."""
        account_math.check_log_entry(caller, entry)
        page = self._opened().get((caller.name, entry.model))
        if page is not None:
            page.account = replace(page.account, work=page.account.work + entry.work.seconds)
        self._written += 1
        self._lines.append((self._written, self.logged_as(caller), entry))

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
        own, *groups = [
            self._read(pages.get((owner.name, model)), owner, at) for owner in account_math.affected_accounts(caller)
        ]
        return None if own is None else account_math.with_groups(own, groups)

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
