"""The client's side of a toll as one generator without I/O, for drivers of HTTP libraries.

A driver sends the purse's ``accept_header`` with each request. If ``may_be_toll`` is true of a response, it runs
``toll_flow``, carries out each step that this yields and sends back the result. Sync and async drivers differ only in how
they send requests and where they solve puzzles.
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
    """A puzzle to solve: the driver calls ``run(cancelled)``, in a thread if it has an event loop."""

    run: Callable[[Cancelled], Answer | Solution]


@dataclass(frozen=True, slots=True)
class RedeemStep:
    """A JSON body that the driver posts to ``path`` at the origin of the toll, without following redirects."""

    body: bytes
    path: str = wire.REDEEM_PATH


@dataclass(frozen=True, slots=True)
class RedeemResponse:
    """The response to a ``RedeemStep``; the body is needed only if the status is that of a toll."""

    status: int
    body: bytes = b""


Flow: TypeAlias = Generator[SolveStep | RedeemStep, Answer | Solution | RedeemResponse, Answer | None]


def may_be_toll(status: int, headers: Mapping[str, str]) -> bool:
    """Whether the body must be read, because it may be a toll; other responses are passed on as streams."""
    return status == wire.STATUS and "json" in headers.get("content-type", "").lower()


def is_final_status(status: int) -> bool:
    """Whether a status may end a paid exchange: any status but that of a toll or a redirect."""
    return status != wire.STATUS and not 300 <= status < 400


def toll_flow(purse: Purse, body: bytes) -> Flow:
    """Pay the toll in the body of a 402.

    Yields a ``SolveStep``, whose result is sent back, and in redeem mode a ``RedeemStep``, to which a ``RedeemResponse``
    is sent back. The response to an admission toll may be one more toll, for the answer. Returns the opened answer, or
    None if the last response is to be returned unchanged: the body was no toll, or the response is the answer.

    Raises:
        TollMalformed, TollTooDear, SolveStopped, SealBroken: the toll was not paid, or its answer cannot be opened.
    """
    toll = wire.find_toll(body, purse.puzzles)
    while toll is not None:
        purse.decide(toll)  # refuse before a thread is used
        result = yield SolveStep(partial(_solve, purse, toll))
        if isinstance(result, Answer):
            return result
        assert isinstance(result, Solution)
        response = yield RedeemStep(wire.encode_redemption(toll.payload, result.counters))
        assert isinstance(response, RedeemResponse)
        toll = _next_toll(toll, response, purse)
    return None


def _next_toll(toll: Toll, response: RedeemResponse, purse: Purse) -> Toll | None:
    """The toll that follows a solved admission toll, or None if the response is the answer.

    Raises:
        SealBroken: the response is a redirect or an unexpected toll. TollMalformed: see ``wire.find_toll``.
    """
    if is_final_status(response.status):
        return None
    next_toll = (
        wire.find_toll(response.body, purse.puzzles) if toll.admission and response.status == wire.STATUS else None
    )
    if next_toll is None or next_toll.admission:
        raise SealBroken(f"the server answers a solved toll with {response.status}: a redirect, or another toll")
    return next_toll


def _solve(purse: Purse, toll: Toll, cancelled: Cancelled) -> Answer | Solution:
    """Pay the toll: the opened answer in sealed mode, else the solution."""
    solution = purse.pay(toll, cancelled)
    if toll.mode != wire.SEALED:
        return solution
    answer = seal.open_answer(toll.payload, solution, wire.canonical_challenge(toll.challenge, toll.mode))
    if not is_final_status(answer.status):
        raise SealBroken(f"the sealed answer has status {answer.status}: a redirect, or another toll")
    return answer
