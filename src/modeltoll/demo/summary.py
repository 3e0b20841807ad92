"""What each caller paid: its answers, the gateway's log and the direct answers, summarised into one line per caller."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.demo.clones import TrainedClone

if TYPE_CHECKING:
    from modeltoll.demo.http_callers import DemoRequest, TimedAnswer
    from modeltoll.records import Bools, Floats, LogEntry

__all__ = ["CallerSummary", "CallerTraffic", "SummaryLine", "summarise"]


@dataclass(frozen=True, slots=True, eq=False)
class CallerTraffic:
    """One caller's requests through the gateway and their answers. ``wanted`` (requests,): which are not fillers."""

    name: str
    accounts: int
    requests: Sequence[DemoRequest]
    answers: Sequence[TimedAnswer]
    wanted: Bools


@dataclass(frozen=True, slots=True, eq=False)
class CallerSummary:
    """A caller's seconds (requests,): without the toll, with it, and of the work that the tariff asked.

    ``seconds_with`` is measured if the toll was solved; otherwise it is the measured wait for the toll plus the work that
    the gateway logged. ``solved`` counts opened answers, ``changed`` those that differ from the direct ones. ``leaks``
    (measures,) are summed over the rows. ``suspected`` (requests,): whether the account was under suspicion.
    """

    traffic: CallerTraffic
    seconds_without: Floats
    seconds_with: Floats
    work: Floats
    solved: int
    leaks: tuple[float, ...]
    changed: int
    suspected: Bools

    @property
    def first_suspected(self) -> int | None:
        """The number of the first request under suspicion, from 1, over all accounts; None if there is none."""
        return int(self.suspected.argmax()) + 1 if self.suspected.any() else None

    @property
    def ratio(self) -> float:
        """Seconds with the toll divided by seconds without, per wanted row; fillers are not sent without a toll."""
        return float(self.seconds_with.sum() / self.seconds_without[self.traffic.wanted].sum())


@dataclass(frozen=True, slots=True)
class SummaryLine:
    """One line of the demo's table. ``curve``: (seconds without, seconds with, clone) after growing shares of the rows."""

    name: str
    summary: CallerSummary
    clone: TrainedClone
    curve: tuple[tuple[float, float, TrainedClone], ...]


def summarise(
    traffic: CallerTraffic, log_entries: Sequence[LogEntry], undefended: Mapping[bytes, TimedAnswer]
) -> CallerSummary:
    """The summary of a caller's traffic, from its entries in the gateway's log, one per request, in order.

    ``undefended`` maps request bodies to the model server's answers.

    Raises:
        ValueError: the numbers of requests and log entries differ.
    """
    if len(log_entries) != len(traffic.requests):
        raise ValueError(f"{traffic.name}: {len(traffic.requests)} requests but {len(log_entries)} log entries")
    direct = [undefended[request.body] for request in traffic.requests]
    opened = np.array([answer.body is not None for answer in traffic.answers])
    waited = np.array([answer.seconds for answer in traffic.answers])
    work = np.array([entry.work.seconds for entry in log_entries])
    changed = sum(
        answer.body is not None and answer.body != direct_answer.body
        for answer, direct_answer in zip(traffic.answers, direct, strict=True)
    )
    return CallerSummary(
        traffic=traffic,
        seconds_without=np.array([answer.seconds for answer in direct]),
        seconds_with=waited + np.where(opened, 0.0, work),
        work=work,
        solved=int(opened.sum()),
        leaks=tuple(np.array([entry.leaks for entry in log_entries]).sum(axis=(0, 1)).tolist()),
        changed=changed,
        suspected=np.array([entry.work.suspected for entry in log_entries], np.bool_),
    )
