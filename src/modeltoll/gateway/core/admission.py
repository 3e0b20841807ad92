"""Decides which callers solve a small puzzle before the model server is asked.

In sealed mode the gateway cannot observe whether a toll was opened. It counts the work that it issued, and when. Issued
work that the given number of cores could not have done since then is unfinished. Each process counts its own requests.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modeltoll.errors import TokenRefused
from modeltoll.puzzle.seal import REFUSED
from modeltoll.records import Work

if TYPE_CHECKING:
    from collections.abc import Callable

    from modeltoll.records import Caller

__all__ = ["AdmissionControl", "AdmissionTerms", "AdmissionTicket"]

_MAX_CALLERS = 100_000  # kept in memory; a caller that was dropped counts as new


@dataclass(frozen=True, slots=True)
class AdmissionTerms:
    """When an admission puzzle of ``seconds`` of reference work is asked.

    It is asked of anonymous callers for their first ``new_requests`` requests, and of any caller whose tolls hold more
    than ``backlog_seconds`` of work beyond what ``cores`` reference cores could have done meanwhile.
    """

    seconds: float
    new_requests: int
    cores: float
    backlog_seconds: float


@dataclass(frozen=True, slots=True)
class AdmissionTicket:
    """Proof of a solved admission puzzle: the puzzle's seed, and when its token expires (seconds since the epoch)."""

    seed: bytes
    expires: float


@dataclass(slots=True)
class _CallerBacklog:
    """One caller in this process: requests answered, and core seconds of work not done yet at the time ``at``."""

    requests: int = 0
    seconds: float = 0.0
    at: float = 0.0


class AdmissionControl:
    """The admission of callers to all models of one process. ``clock`` gives seconds since the epoch."""

    def __init__(self, terms: AdmissionTerms, clock: Callable[[], float]) -> None:
        self._terms = terms
        self._clock = clock
        self._backlogs: OrderedDict[str, _CallerBacklog] = OrderedDict()
        self._used: OrderedDict[bytes, float] = OrderedDict()  # seeds of used tickets, and when they expire

    def required_work(self, caller: Caller, rows: int) -> Work | None:
        """The work that a request of ``rows`` rows costs before the model server is asked; None where it costs none."""
        backlog, terms = self._backlogs.get(caller.name, _CallerBacklog()), self._terms
        new = caller.anonymous and backlog.requests < terms.new_requests
        if not new and self._seconds_left(backlog) <= terms.backlog_seconds:
            return None
        return Work(terms.seconds, rows, 0.0, new_account_seconds=terms.seconds)

    def use_ticket(self, ticket: AdmissionTicket) -> None:
        """Mark a ticket as used.

        Raises:
            TokenRefused: the ticket was used before in this process.
        """
        now = self._clock()
        while self._used and next(iter(self._used.values())) <= now:
            self._used.popitem(last=False)
        if ticket.seed in self._used:
            raise TokenRefused(REFUSED, private="the admission ticket was used before")
        self._used[ticket.seed] = ticket.expires

    def record(self, caller: Caller, seconds: float) -> None:
        """Record an answered request, and the work of its toll in reference seconds."""
        backlog = self._backlogs.setdefault(caller.name, _CallerBacklog())
        backlog.seconds, backlog.at = self._seconds_left(backlog) + seconds, self._clock()
        backlog.requests += 1
        self._backlogs.move_to_end(caller.name)
        if len(self._backlogs) > _MAX_CALLERS:
            self._backlogs.popitem(last=False)

    def _seconds_left(self, backlog: _CallerBacklog) -> float:
        """The work that cannot have been done yet, in core seconds."""
        return max(0.0, backlog.seconds - self._terms.cores * max(0.0, self._clock() - backlog.at))
