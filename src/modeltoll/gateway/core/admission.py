"""Who solves a small puzzle before the model server is asked, so that tolls which nobody opens cannot burn the model.

In sealed mode the gateway never learns whether a toll was opened. What it knows is how much work it gave out, and when:
work that so many cores could not have done since then was not done. Each process judges by what it has seen itself.
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

_CALLERS = 100_000  # at most that are remembered; who is forgotten is new again


@dataclass(frozen=True, slots=True)
class AdmissionTerms:
    """``seconds`` of reference work for an entry. It is asked of anonymous callers for their first ``new_requests``,
    and of any caller who was given tolls of more than ``backlog`` seconds beyond what ``cores`` reference cores could
    have opened meanwhile."""

    seconds: float
    new_requests: int
    cores: float
    backlog: float


@dataclass(frozen=True, slots=True)
class AdmissionTicket:
    """What is left of a solved entry puzzle: its seed, and until when it could be shown (seconds since the epoch)."""

    seed: bytes
    until: float


@dataclass(slots=True)
class _CallerBacklog:
    """A caller, as this process has seen him: requests answered, and core seconds of work that wait to be opened."""

    requests: int = 0
    backlog: float = 0.0
    at: float = 0.0


class AdmissionControl:
    """Before the gates of all models of one process. ``clock`` gives seconds since the epoch."""

    def __init__(self, terms: AdmissionTerms, clock: Callable[[], float]) -> None:
        self._terms = terms
        self._clock = clock
        self._known: OrderedDict[str, _CallerBacklog] = OrderedDict()
        self._taken: OrderedDict[bytes, float] = OrderedDict()

    def work(self, caller: Caller, rows: int) -> Work | None:
        """The work that a request of so many rows costs before it is dealt with; None where it costs nothing."""
        known, terms = self._known.get(caller.name, _CallerBacklog()), self._terms
        new = caller.anonymous and known.requests < terms.new_requests
        if not new and self._backlog(known) <= terms.backlog:
            return None
        return Work(terms.seconds, rows, 0.0, new_account_seconds=terms.seconds)

    def take(self, ticket: AdmissionTicket) -> None:
        """Use a ticket up.

        Raises:
            TokenRefused: it was used here before.
        """
        now = self._clock()
        while self._taken and next(iter(self._taken.values())) <= now:
            self._taken.popitem(last=False)
        if ticket.seed in self._taken:
            raise TokenRefused(REFUSED, private="the entry was used before")
        self._taken[ticket.seed] = ticket.until

    def let_in(self, caller: Caller, seconds: float) -> None:
        """Note an answered request, and the seconds of its toll."""
        known = self._known.setdefault(caller.name, _CallerBacklog())
        known.backlog, known.at = self._backlog(known) + seconds, self._clock()
        known.requests += 1
        self._known.move_to_end(caller.name)
        if len(self._known) > _CALLERS:
            self._known.popitem(last=False)

    def _backlog(self, known: _CallerBacklog) -> float:
        """What cannot have been opened yet, in core seconds."""
        return max(0.0, known.backlog - self._terms.cores * max(0.0, self._clock() - known.at))
