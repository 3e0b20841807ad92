"""``toll_flow`` as an object with the current step, for drivers that are not generators."""

from __future__ import annotations

from modeltoll.client.toll_call import TollCall
from modeltoll.client.toll_flow import Step, StepResponse, toll_flow
from modeltoll.records import Answer
from modeltoll.toll_records import Solution

__all__ = ["TollSession"]


class TollSession:
    """The payment of the toll in the body of one 402.

    ``step`` is what the driver must do next, or None at the end; then ``answer`` is the opened answer, or None if the
    last response is to be returned unchanged. The driver calls ``close`` however the exchange ends.

    Raises (from every call but ``close``):
        TollMalformed, TollTooDear, SolveStopped, SealBroken: the toll was not paid, or its answer cannot be opened.
    """

    step: Step | None
    answer: Answer | None = None

    def __init__(self, call: TollCall, body: bytes) -> None:
        self._flow = toll_flow(call, body)
        self._advance(None)

    def submit_result(self, result: Answer | Solution) -> None:
        """Give the result of a ``SolveStep``."""
        self._advance(result)

    def end_wait(self) -> None:
        """Say that a ``WaitStep`` is over."""
        self._advance(None)

    def submit_response(self, status: int, body: bytes = b"") -> None:
        """Give the response to a ``RedeemStep`` or ``ResendStep``; the body only if the step ``reads`` it."""
        self._advance(StepResponse(status, body))

    def close(self) -> None:
        """Give up what is left: the toll no longer counts as being paid."""
        self._flow.close()

    def _advance(self, result: Answer | Solution | StepResponse | None) -> None:
        try:
            self.step = self._flow.send(result)
        except StopIteration as end:
            self.step, self.answer = None, end.value
