"""Retention: what a ledger deletes as it ages, in bounded steps beside its bills."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from modeltoll.ledger.url_options import DAY, positive_number

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "KEEP_LOG_DAYS",
    "MAX_ACCOUNTS_AT_ONCE",
    "MAX_LINES_AT_ONCE",
    "MAX_SLOTS_AT_ONCE",
    "RECEIPT_GRACE",
    "UNTOUCHED",
    "Retention",
    "Sweep",
]

KEEP_LOG_DAYS = "keep_log_days"  # the URL option's name
FOREVER = "forever"  # its value that keeps every line
UNTOUCHED = 400 * DAY  # seconds after which accounts, standings and days of usage that nobody touched are deleted
RECEIPT_GRACE = 3600.0  # seconds for which an expired receipt stays counted; clocks of gateways may differ by as much
MAX_LINES_AT_ONCE = 2000  # most lines, standings, receipts or days that one step deletes, which bounds its time
MAX_ACCOUNTS_AT_ONCE = 100  # the same for accounts
MAX_SLOTS_AT_ONCE = 8192  # fingerprints deleted with accounts in one step, those of the last account not counted
_KEEP_LOG = 30 * DAY  # seconds
_EVERY = 1000  # bills of one gateway between steps; below MAX_LINES_AT_ONCE, so that deletion keeps up


@dataclass(frozen=True, slots=True)
class Sweep:
    """What to delete in one step: what is older than these times, in seconds since the epoch; None deletes no lines."""

    lines_before: float | None
    untouched_since: float
    expired_before: float

    @property
    def days_before(self) -> int:
        """The first day whose usage stays, counted from the epoch."""
        return int(self.untouched_since // DAY)


class Retention:
    """Tells when to delete. ``keep_log`` is in seconds, None for ever. Time is that of the log's entries."""

    def __init__(self, keep_log: float | None = _KEEP_LOG) -> None:
        self._keep_log = keep_log
        self._until_due = 0  # bills

    @classmethod
    def from_options(cls, options: Mapping[str, str]) -> Retention:
        """From the option ``keep_log_days``: a number, or ``forever``.

        Raises:
            SettingsError: the option is neither ``forever`` nor a number above 0.
        """
        if options.get(KEEP_LOG_DAYS) == FOREVER:
            return cls(None)
        return cls(positive_number(options, KEEP_LOG_DAYS, _KEEP_LOG, unit=DAY))

    def sweep(self, at: float) -> Sweep | None:
        """What is to be deleted with the bill of the time ``at``, or None; to be called once per bill."""
        self._until_due -= 1
        if self._until_due >= 0:
            return None
        self._until_due = _EVERY - 1
        return Sweep(
            lines_before=None if self._keep_log is None else at - self._keep_log,
            untouched_since=at - UNTOUCHED,
            expired_before=at - RECEIPT_GRACE,
        )

    def swept(self, *, more: bool) -> None:
        """Report a step. If it left ``more`` to delete, the next bill is accompanied by another one."""
        if more:
            self._until_due = 0
