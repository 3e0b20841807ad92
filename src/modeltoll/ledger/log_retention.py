"""When the old end of a log is cut off."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modeltoll.ledger.url_options import DAY, positive_number

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["KEEP_LOG_DAYS", "MAX_LINES_AT_ONCE", "Retention"]

KEEP_LOG_DAYS = "keep_log_days"  # the option's name
MAX_LINES_AT_ONCE = 2000  # lines at most that go at once, so that no bill takes long
_EVERY = 1000  # bills of one gateway; fewer than go at once, so that the log cannot outgrow the cuts


class Retention:
    """Keeps the log's lines for so many seconds; None keeps them for ever. Time is what the bills say."""

    def __init__(self, seconds: float | None = None) -> None:
        self._seconds = seconds
        self._bills = 0

    @classmethod
    def from_options(cls, options: Mapping[str, str]) -> Retention:
        """By ``keep_log_days``; raises ``SettingsError`` where that is no number above 0."""
        return cls(positive_number(options, KEEP_LOG_DAYS, 0.0, unit=DAY) or None)

    def before(self, at: float) -> float | None:
        """To be asked at each bill, of the time ``at``: lines that are older than this may go now; None for no lines."""
        if self._seconds is None:
            return None
        due = self._bills % _EVERY == 0
        self._bills += 1
        return at - self._seconds if due else None
