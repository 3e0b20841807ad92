"""``toll_flow`` as an object with the current step, for drivers that are not generators."""

from __future__ import annotations

from modeltoll.client.purse import Purse
from modeltoll.client.toll_flow import RedeemResponse, RedeemStep, SolveStep, toll_flow
from modeltoll.records import Answer, Solution

__all__ = ["TollSession"]


class TollSession:
    """The payment of the toll in the body of one 402.

    ``step`` is what the driver must do next, or None at the end; then ``answer`` is the opened answer, or None if the
    last response is to be returned unchanged.

    Raises (from every call):
        TollMalformed, TollTooDear, SolveStopped, SealBroken: the toll was not paid, or its answer cannot be opened.
    """

    step: SolveStep | RedeemStep | None
    answer: Answer | None = None

    def __init__(self, purse: Purse, body: bytes) -> None:
        self._flow = toll_flow(purse, body)
        self._advance(None)

    def submit_result(self, result: Answer | Solution) -> None:
        """Give the result of a ``SolveStep``."""
        self._advance(result)

    def submit_redemption(self, status: int, body: bytes = b"") -> None:
        """Give the response to a ``RedeemStep``; the body is needed only if the status is that of a toll."""
        self._advance(RedeemResponse(status, body))

    def _advance(self, result: Answer | Solution | RedeemResponse | None) -> None:
        try:
            self.step = self._flow.send(result)  # type: ignore[arg-type]  # None starts a generator
        except StopIteration as end:
            self.step, self.answer = None, end.value
