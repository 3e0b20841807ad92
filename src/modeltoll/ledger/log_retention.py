"""Retention of the log: when old lines are deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modeltoll.ledger.url_options import DAY, positive_number

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["KEEP_LOG_DAYS", "MAX_LINES_AT_ONCE", "Retention"]

KEEP_LOG_DAYS = "keep_log_days"  # the URL option's name
MAX_LINES_AT_ONCE = 2000  # most lines deleted in one step, which bounds the time of a bill
_EVERY = 1000  # bills of one gateway between deletions; below MAX_LINES_AT_ONCE, so that deletion keeps up


class Retention:
    """Deletes lines of the log after ``seconds``; None keeps them for ever. Time is that of the entries."""

    def __init__(self, seconds: float | None = None) -> None:
        self._seconds = seconds
        self._bills = 0

    @classmethod
    def from_options(cls, options: Mapping[str, str]) -> Retention:
        """From the option ``keep_log_days``.

        Raises:
            SettingsError: the option is not a number above 0.
        """
        return cls(positive_number(options, KEEP_LOG_DAYS, 0.0, unit=DAY) or None)

    def before(self, at: float) -> float | None:
        """The time before which lines are to be deleted now, or None; to be called once per bill, of the time ``at``."""
        if self._seconds is None:
            return None
        due = self._bills % _EVERY == 0
        self._bills += 1
        return at - self._seconds if due else None
