"""Counts the callers of one model as they come under suspicion, and warns where one has been a customer for long."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from modeltoll.evidence_records import EvidenceState, Verdict
    from modeltoll.records import Account

__all__ = ["LONG_STANDING_ROWS", "SuspectCounts", "SuspectMonitor", "SuspectTerms"]

log = logging.getLogger("modeltoll.gateway")

LONG_STANDING_ROWS = 200  # settled rows of a caller from which on its suspicion may be an alarm
_REMEMBERED = 10_000  # callers under suspicion
_DAY = 86_400.0  # seconds
_LOG_HALF = math.log(0.5)  # weight of the evidence under the tariffs before


@dataclass(frozen=True, slots=True)
class SuspectCounts:
    """Callers, as one process saw them. ``recent``: under suspicion at their latest request, in the last 24 hours.

    ``new``: that have come under suspicion since the last call of ``drain``; ``long_standing``: those of them who had
    been customers for long.
    """

    recent: int
    new: int
    long_standing: int


@dataclass(frozen=True, slots=True)
class SuspectTerms:
    """What a monitor of one model counts.

    ``log_threshold``: the log evidence from which on a caller is under suspicion. A caller with a key or token is of long
    standing ``long_standing_seconds`` after its first request, once ``LONG_STANDING_ROWS`` of its rows are settled.
    """

    model: str
    log_threshold: float
    long_standing_seconds: float


class SuspectMonitor:
    """The suspects of one model. ``clock`` gives seconds since the epoch."""

    def __init__(self, terms: SuspectTerms, clock: Callable[[], float]) -> None:
        self.terms = terms
        self._clock = clock
        # By name, in the order of their latest requests under suspicion: when that was, minus infinity once it has ended.
        self._suspects: dict[str, float] = {}
        self._new = self._long_standing = 0

    def record(self, account: Account, verdict: Verdict, settled_rows: int) -> None:
        """Record the verdict on a request. ``settled_rows``: of the caller, in shadow mode all its rows."""
        name, now = account.caller.name, self._clock()
        if not verdict.suspected or account.caller.exempt:
            if name in self._suspects:
                self._suspects[name] = -math.inf
            return
        known = self._suspects.pop(name, None) is not None
        self._suspects[name] = now
        if len(self._suspects) > _REMEMBERED:
            del self._suspects[next(iter(self._suspects))]
        if not known and _stored_log_evidence(account.evidence) < self.terms.log_threshold:
            self._count(account, settled_rows, now)

    def _count(self, account: Account, settled_rows: int, now: float) -> None:
        """Count a caller that has come under suspicion."""
        self._new += 1
        seconds = now - account.first_seen
        if account.caller.anonymous or seconds < self.terms.long_standing_seconds or settled_rows < LONG_STANDING_ROWS:
            return
        self._long_standing += 1
        log.warning(
            "%s: %s has come under suspicion, %d days after its first request and after %d settled rows. If it is honest, "
            "its rows have changed: see modeltoll explain, declare a kind or renew its own. If not, its key may be stolen",
            self.terms.model,
            account.caller.name,
            seconds / _DAY,
            settled_rows,
        )

    def drain(self) -> SuspectCounts:
        """The counts now; new ones count from here on again."""
        since = self._clock() - _DAY
        counts = SuspectCounts(sum(at >= since for at in self._suspects.values()), self._new, self._long_standing)
        self._new = self._long_standing = 0
        return counts


def _stored_log_evidence(state: EvidenceState) -> float:
    """The evidence before the request, as the latest bill stored it or as the tariffs before left it."""
    carried = state.carried_log
    return state.log_evidence if carried is None else max(state.log_evidence, _LOG_HALF + carried)
