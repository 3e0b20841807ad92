"""The protocol of a toll as one generator, for drivers of HTTP libraries.

A driver tells each server the purse's ``wishes``. Where ``may_be_toll`` says so of the response, it does what
``toll_flow`` yields and gives back what came of it. Sync and async drivers differ only in how they send and in where
they work.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from modeltoll import wire
from modeltoll.client.purse import Cancelled, Purse
from modeltoll.errors import SealBroken
from modeltoll.puzzle import seal
from modeltoll.records import Answer, Solution, Toll

__all__ = ["Flow", "RedeemResponse", "RedeemStep", "SolveStep", "is_final_status", "may_be_toll", "toll_flow"]


@dataclass(frozen=True, slots=True)
class SolveStep:
    """Work that the driver must do, beside its event loop if it has one: ``run(cancelled)``."""

    run: Callable[[Cancelled], Answer | Solution]


@dataclass(frozen=True, slots=True)
class RedeemStep:
    """A JSON body that the driver must post to ``path`` at the origin that asked the toll, following no redirect."""

    body: bytes
    path: str = wire.REDEEM_PATH


@dataclass(frozen=True, slots=True)
class RedeemResponse:
    """What came of a redemption; the body only where the status is that of a toll."""

    status: int
    body: bytes = b""


Flow: TypeAlias = Generator[SolveStep | RedeemStep, Answer | Solution | RedeemResponse, Answer | None]


def may_be_toll(status: int, headers: Mapping[str, str]) -> bool:
    """Whether the body of such a response must be read, to see what is asked; any other comes through as a stream."""
    return status == wire.STATUS and "json" in headers.get("content-type", "").lower()


def is_final_status(status: int) -> bool:
    """Whether a server that was paid may end with this status: anything but a further toll or a redirect."""
    return status != wire.STATUS and not 300 <= status < 400


def toll_flow(purse: Purse, body: bytes) -> Flow:
    """Walk the body of one 402 to what it buys.

    Yields labour, and perhaps a redemption; the driver sends back what ``SolveStep.run`` returned, and what came of the
    redemption. That of an entry toll may bring one toll more, for the answer. Returns the opened answer, or None where the last response stands as it came: it was no
    toll, or it is what the redemption bought.

    Raises:
        TollMalformed, TollTooDear, SolveStopped, SealBroken: the toll was not paid, or bought nothing.
    """
    toll = wire.find_toll(body, purse.puzzles)
    while toll is not None:
        purse.decide(toll)  # refuse before a thread is troubled
        earned = yield SolveStep(partial(_earn, purse, toll))
        if isinstance(earned, Answer):
            return earned
        assert isinstance(earned, Solution)
        came = yield RedeemStep(wire.encode_redemption(toll.payload, earned.counters))
        assert isinstance(came, RedeemResponse)
        toll = _behind(toll, came, purse)
    return None


def _behind(toll: Toll, came: RedeemResponse, purse: Purse) -> Toll | None:
    """The toll that stands behind a solved entry, or None where what came is what was bought.

    Raises:
        SealBroken: it is neither. TollMalformed: as ``wire.find_toll``.
    """
    if is_final_status(came.status):
        return None
    further = wire.find_toll(came.body, purse.puzzles) if toll.admission and came.status == wire.STATUS else None
    if further is None or further.admission:
        raise SealBroken(f"the server answers a solved toll with {came.status}: a redirect, or a toll on a toll")
    return further


def _earn(purse: Purse, toll: Toll, cancelled: Cancelled) -> Answer | Solution:
    """The opened answer of a sealed toll, the solution of any other."""
    solution = purse.pay(toll, cancelled)
    if toll.mode != wire.SEALED:
        return solution
    answer = seal.open_answer(toll.payload, solution, wire.canonical_challenge(toll.challenge, toll.mode))
    if not is_final_status(answer.status):
        raise SealBroken(f"the seal holds no answer, but status {answer.status}: a redirect, or a toll on a toll")
    return answer
