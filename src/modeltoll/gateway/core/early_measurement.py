"""Measures a request's inputs before the answer arrives, for measures that read inputs only.

A measurement that takes long is made in another thread while the model server works, so that the caller does not wait
for it.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from modeltoll.leak.measure import reads_inputs_alone
from modeltoll.records import Evidence

if TYPE_CHECKING:
    from modeltoll.gateway.protocols.protocol import ParsedRequest
    from modeltoll.leak.measure import LeakMeasure
    from modeltoll.records import Floats

__all__ = ["MIN_THREAD_SECONDS", "EarlyLeaks", "EarlyMeasurement"]

T = TypeVar("T")
EarlyLeaks = Mapping[str, "Floats"]  # leaks (rows,) by the measure's name

MIN_THREAD_SECONDS = 0.3e-3  # quicker measurements wait for the answer: switching threads takes some 0.1 ms


class EarlyMeasurement:
    """One model's measures of inputs alone. Their duration is estimated by the shortest so far."""

    def __init__(self, measures: Sequence[LeakMeasure]) -> None:
        self._measures = tuple(measure for measure in measures if reads_inputs_alone(measure))
        self._shortest: dict[int, float] = {}  # seconds, by the number of binary digits of the rows

    async def measure_during(self, ask: Awaitable[T], parsed: ParsedRequest) -> tuple[T, EarlyLeaks]:
        """Await the model server's answer; returns it, and the leaks that were measured meanwhile.

        What a measure raises for the inputs is left to the measurement of the answer: the model has worked by then.

        Raises:
            What ``ask`` raises, and nothing else.
        """
        rows = len(parsed.fingerprints)
        quick = self._shortest.get(rows.bit_length(), math.inf) <= MIN_THREAD_SECONDS
        if not self._measures or parsed.inputs is None or quick:
            return await ask, {}
        measuring = asyncio.ensure_future(asyncio.to_thread(self._measure, parsed))
        measuring.add_done_callback(_retrieve_exception)
        try:
            answer = await ask
        except BaseException:
            measuring.cancel()
            raise
        try:
            return answer, await measuring
        except Exception:  # noqa: BLE001  raised again by the measurement of the answer, which says what it means
            return answer, {}

    def _measure(self, parsed: ParsedRequest) -> EarlyLeaks:
        begin = time.perf_counter()
        evidence = Evidence(parsed.fingerprints, inputs=parsed.inputs)
        leaks = {measure.name: measure.measure(evidence) for measure in self._measures}
        seconds, size = time.perf_counter() - begin, evidence.rows.bit_length()
        self._shortest[size] = min(seconds, self._shortest.get(size, math.inf))
        return leaks


def _retrieve_exception(measuring: asyncio.Future[EarlyLeaks]) -> None:
    """Keep asyncio from logging a measurement that failed and was never awaited, since there was no answer."""
    if not measuring.cancelled():
        measuring.exception()
