"""What can be measured before there is an answer: inputs, by measures that look at nothing else.

Where that takes long it is done in another thread while the model server works, and the caller does not wait for it.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Mapping, Sequence
from typing import TYPE_CHECKING

from modeltoll.leak.measure import reads_inputs_alone
from modeltoll.records import Answer, Evidence

if TYPE_CHECKING:
    from modeltoll.gateway.protocols.protocol import ParsedRequest
    from modeltoll.leak.measure import LeakMeasure
    from modeltoll.records import Floats

__all__ = ["WORTH", "EarlyLeaks", "EarlyMeasurement"]

EarlyLeaks = Mapping[str, "Floats"]  # leaks (rows,) by the measure's name

WORTH = 0.3e-3  # seconds; going to another thread and back takes some 0.1 ms


class EarlyMeasurement:
    """One model's measures of inputs alone. How long they take is known from the quickest look so far."""

    def __init__(self, measures: Sequence[LeakMeasure]) -> None:
        self._measures = tuple(measure for measure in measures if reads_inputs_alone(measure))
        self._least: dict[int, float] = {}  # seconds, by the rows' number of binary digits

    async def beside(self, asking: Awaitable[Answer], question: ParsedRequest) -> tuple[Answer, EarlyLeaks]:
        """Wait for the model server's answer, and with it come the leaks that could be measured meanwhile.

        Raises:
            What ``asking`` raises; else what a measure raises of the inputs.
        """
        rows = len(question.fingerprints)
        if not self._measures or question.inputs is None or self._least.get(rows.bit_length(), math.inf) <= WORTH:
            return await asking, {}
        looking = asyncio.ensure_future(asyncio.to_thread(self._look, question))
        looking.add_done_callback(_log_failure)
        try:
            answer = await asking
        except BaseException:
            looking.cancel()
            raise
        return answer, await looking

    def _look(self, question: ParsedRequest) -> EarlyLeaks:
        begin = time.perf_counter()
        evidence = Evidence(question.fingerprints, inputs=question.inputs)
        found = {measure.name: measure.measure(evidence) for measure in self._measures}
        took, size = time.perf_counter() - begin, evidence.rows.bit_length()
        self._least[size] = min(took, self._least.get(size, math.inf))
        return found


def _log_failure(looking: asyncio.Future[EarlyLeaks]) -> None:
    """What went wrong with the inputs is of no interest where there is no answer."""
    if not looking.cancelled():
        looking.exception()
