"""The protocol of one 402, step by step: what every driver asks for and hands in."""

from __future__ import annotations

from modeltoll.client.purse import Purse
from modeltoll.client.toll_flow import RedeemResponse, RedeemStep, SolveStep, toll_flow
from modeltoll.records import Answer, Solution

__all__ = ["TollSession"]


class TollSession:
    """The way from the body of a 402 to what it buys.

    ``step`` is what the driver must do next, None at the end; there, ``answer`` is what was opened, or None where the
    last response stands as it came.

    Raises (from every call):
        TollMalformed, TollTooDear, SolveStopped, SealBroken: the toll was not paid, or bought nothing.
    """

    step: SolveStep | RedeemStep | None
    answer: Answer | None = None

    def __init__(self, purse: Purse, body: bytes) -> None:
        self._flow = toll_flow(purse, body)
        self._go(None)

    def earned(self, got: Answer | Solution) -> None:
        """Hand in what the labour brought."""
        self._go(got)

    def redeemed(self, status: int, body: bytes = b"") -> None:
        """Hand in what came of the redemption; the body where the status is that of a toll."""
        self._go(RedeemResponse(status, body))

    def _go(self, got: Answer | Solution | RedeemResponse | None) -> None:
        try:
            self.step = self._flow.send(got)  # type: ignore[arg-type]  # None starts a generator
        except StopIteration as end:
            self.step, self.answer = None, end.value
