"""Who paid how much: purchases, the gateway's own log and the undefended answers, made into one line per caller."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.demo.clones import TrainedClone

if TYPE_CHECKING:
    from modeltoll.demo.http_callers import DemoRequest, PaidAnswer
    from modeltoll.records import Bools, Floats, LogEntry

__all__ = ["CallerSummary", "PaidRequest", "SummaryLine", "summarise"]


@dataclass(frozen=True, slots=True, eq=False)
class PaidRequest:
    """One caller's way through the gateway. ``wanted`` marks the requests that are not mere filler, (requests,)."""

    name: str
    accounts: int
    asked: Sequence[DemoRequest]
    bought: Sequence[PaidAnswer]
    wanted: Bools


@dataclass(frozen=True, slots=True, eq=False)
class CallerSummary:
    """A visit with its seconds, (requests,) each: without the toll, with it, and of work that the tariff asked.

    ``seconds_with`` is measured where the toll was solved; elsewhere it is the measured wait for the toll and the
    work that the tariff asked, exactly as the gateway logged it. ``leaks`` (measures,) are summed over the rows.
    """

    visit: PaidRequest
    seconds_without: Floats
    seconds_with: Floats
    work: Floats
    solved: int
    leaks: tuple[float, ...]
    changed: int

    @property
    def ratio(self) -> float:
        """Seconds with the toll over seconds without, per wanted row: fillers would not be asked without a toll."""
        return float(self.seconds_with.sum() / self.seconds_without[self.visit.wanted].sum())


@dataclass(frozen=True, slots=True)
class SummaryLine:
    """One line of the demo's table. ``curve`` holds (seconds without, seconds with, clone) after growing shares."""

    name: str
    account: CallerSummary
    clone: TrainedClone
    curve: tuple[tuple[float, float, TrainedClone], ...]


def summarise(visit: PaidRequest, bills: Sequence[LogEntry], undefended: Mapping[bytes, PaidAnswer]) -> CallerSummary:
    """Settle a visit from the lines that it left in the gateway's log, one per request, in order."""
    if len(bills) != len(visit.asked):
        raise ValueError(f"{visit.name}: {len(visit.asked)} requests but {len(bills)} lines in the log")
    direct = [undefended[question.body] for question in visit.asked]
    opened = np.array([purchase.body is not None for purchase in visit.bought])
    waited = np.array([purchase.seconds for purchase in visit.bought])
    work = np.array([bill.work.seconds for bill in bills])
    changed = sum(
        purchase.body is not None and purchase.body != answer.body
        for purchase, answer in zip(visit.bought, direct, strict=True)
    )
    return CallerSummary(
        visit=visit,
        seconds_without=np.array([answer.seconds for answer in direct]),
        seconds_with=waited + np.where(opened, 0.0, work),
        work=work,
        solved=int(opened.sum()),
        leaks=tuple(np.array([bill.leaks for bill in bills]).sum(axis=(0, 1)).tolist()),
        changed=changed,
    )
