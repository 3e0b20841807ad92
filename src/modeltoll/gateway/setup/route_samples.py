"""Many single-row requests to one route: the time of a row without a gateway, and the tolerance that the answers need."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from modeltoll.errors import AnswerError
from modeltoll.gateway.setup.row_requests import refusal_reason
from modeltoll.gateway.setup.row_sender import TimedUpstream
from modeltoll.leak.scores import LARGEST_TOLERANCE, TOLERANCES

if TYPE_CHECKING:
    from modeltoll.gateway.core.request import ServedModel
    from modeltoll.gateway.protocols.protocol import ParsedRequest
    from modeltoll.gateway.upstream.upstream import Upstream
    from modeltoll.records import Answer, Floats

__all__ = ["Exchange", "RowTime", "ask_many", "proposed_tolerance", "time_of_row"]

_WARM_UP, _LEAST, _MOST = 5, 20, 400  # requests
_SECONDS = 5.0  # after which a time that is not steady is given as it is
_STEADY = 0.05  # half the interval, relative to the median, below which a time is steady
_Z = 1.96  # of a 95 % interval


@dataclass(frozen=True, slots=True, eq=False)
class Exchange:
    """A request as it was read, the answer, and the seconds that a row of it took."""

    parsed: ParsedRequest
    answer: Answer
    seconds: float


@dataclass(frozen=True, slots=True)
class RowTime:
    """The median time of a row in seconds, with its 95 % interval, of so many requests; ``steady``: known within 5 %."""

    seconds: float
    low: float
    high: float
    requests: int
    steady: bool


async def ask_many(served_model: ServedModel, upstream: Upstream, bodies: Sequence[bytes]) -> list[Exchange]:
    """Send requests one at a time, again from the first, until the time of a row is steady or 5 s have passed.

    Raises:
        AnswerError: the model server refused one. UpstreamError: it does not answer.
    """
    timed, begin, exchanges = TimedUpstream(upstream), time.perf_counter(), list[Exchange]()
    for number in range(_WARM_UP + _MOST):
        body = bodies[number % len(bodies)]
        parsed = served_model.read(body)
        answer = await timed.predict(served_model.path_of(parsed), parsed.forward or body)
        if answer.status != 200:
            raise AnswerError(refusal_reason(served_model, answer))
        exchanges.append(Exchange(parsed, answer, timed.seconds / len(parsed.fingerprints)))
        asked = number + 1 - _WARM_UP
        if asked >= max(_LEAST, min(len(bodies), _MOST)) and asked % 10 == 0:
            late = time.perf_counter() - begin > _SECONDS
            if late or time_of_row(exchanges).steady:
                break
    return exchanges


def time_of_row(exchanges: Sequence[Exchange]) -> RowTime:
    """The time of a row without a gateway; the first requests, which warm the server up, do not count."""
    seconds: Floats = np.sort([each.seconds for each in exchanges[_WARM_UP:] or exchanges])
    count = len(seconds)
    reach = _Z * math.sqrt(count) / 2  # of the ranks between which the median lies
    low = float(seconds[max(0, math.floor(count / 2 - reach))])
    high = float(seconds[min(count - 1, math.ceil(count / 2 + reach))])
    median = float(np.median(seconds))
    return RowTime(median, low, high, count, count >= _LEAST and high - low <= 2 * _STEADY * median)


def proposed_tolerance(served_model: ServedModel, exchanges: Sequence[Exchange]) -> float | None:
    """The least ``output.tolerance`` under half of which every answer can be measured; None where none helps."""
    for tolerance in TOLERANCES:
        half = replace(served_model, service=replace(served_model.service, tolerance=tolerance / 2))
        if _all_measured(half, exchanges):
            return tolerance
    last = replace(served_model, service=replace(served_model.service, tolerance=LARGEST_TOLERANCE))
    return LARGEST_TOLERANCE if _all_measured(last, exchanges) else None


def _all_measured(served_model: ServedModel, exchanges: Sequence[Exchange]) -> bool:
    try:
        for each in exchanges:
            served_model.evidence(each.parsed, each.answer)
    except AnswerError:
        return False
    return True
