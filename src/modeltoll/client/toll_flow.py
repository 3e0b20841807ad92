"""The client's side of a toll as one generator without I/O, for drivers of HTTP libraries.

A driver sends the purse's ``accept_header`` with each request, and receipts (``TollCall.receipts_in``). If
``may_be_toll`` is true of a response, it runs ``toll_flow``, carries out each step that this yields and sends back the
result. Sync and async drivers differ only in how they send requests and where they wait and solve puzzles.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from modeltoll import wire
from modeltoll.client.purse import Cancelled
from modeltoll.client.receipts import Flight
from modeltoll.client.toll_call import TollCall, resolved_path
from modeltoll.errors import SealBroken, TollMalformed
from modeltoll.puzzle import seal
from modeltoll.records import Answer
from modeltoll.toll_records import Solution, Toll

__all__ = [
    "POLL_SECONDS",
    "Flow",
    "ProbeStep",
    "RedeemStep",
    "ResendStep",
    "SolveStep",
    "Step",
    "StepResponse",
    "WaitStep",
    "is_final_status",
    "may_be_toll",
    "toll_flow",
]

POLL_SECONDS = 0.02
_PROBED_SECONDS = 0.1  # of expected work, from which on the redeem path is asked first whether it leads to a gateway
_NO_CONTENT = 204
_LOST_STATUSES = (403, 404, 405, 410, 501)
_MAX_ADMISSIONS = 16  # admission tolls for one request, all but the first within ``max_seconds`` together
_MAX_RESENDS = 16  # of one request with the receipts of other tolls, before it pays for admission


@dataclass(frozen=True, slots=True)
class SolveStep:
    """A puzzle to solve: the driver calls ``run(cancelled)``, in a thread if it has an event loop."""

    run: Callable[[Cancelled], Answer | Solution]


@dataclass(frozen=True, slots=True)
class WaitStep:
    """A wait for other tolls of the account: the driver asks ``ready()`` every ``POLL_SECONDS`` until it is true."""

    ready: Callable[[], bool]


@dataclass(frozen=True, slots=True)
class RedeemStep:
    """A JSON body that the driver posts to ``path`` at the origin of the toll, without following redirects."""

    body: bytes
    path: str

    def reads(self, status: int, headers: Mapping[str, str]) -> bool:  # noqa: ARG002  the same for both kinds
        """Whether the driver reads the response, because it does not go to the caller."""
        return not is_final_status(status)


@dataclass(frozen=True, slots=True)
class ProbeStep(RedeemStep):
    """A post to the redeem path that redeems nothing: whether it leads to a gateway."""

    def reads(self, status: int, headers: Mapping[str, str]) -> bool:  # noqa: ARG002
        """Whether the driver reads the response: always, for it never goes to the caller."""
        return True


@dataclass(frozen=True, slots=True)
class ResendStep:
    """The driver sends the original request once more, with the receipts that there are now."""

    def reads(self, status: int, headers: Mapping[str, str]) -> bool:
        """Whether the driver reads the response, because it may be a toll."""
        return may_be_toll(status, headers)


@dataclass(frozen=True, slots=True)
class StepResponse:
    """The response to a ``RedeemStep`` or ``ResendStep``; the body only if the step ``reads`` it."""

    status: int
    body: bytes = b""


Step: TypeAlias = SolveStep | WaitStep | RedeemStep | ResendStep
Flow: TypeAlias = Generator[Step, Answer | Solution | StepResponse | None, Answer | None]


def may_be_toll(status: int, headers: Mapping[str, str]) -> bool:
    """Whether the body must be read, because it may be a toll; other responses are passed on as streams."""
    return status == wire.STATUS and "json" in headers.get("content-type", "").lower()


def is_final_status(status: int) -> bool:
    """Whether a status may end a paid exchange: any status but that of a toll or a redirect."""
    return status != wire.STATUS and not 300 <= status < 400


def toll_flow(call: TollCall, body: bytes) -> Flow:
    """Pay the toll in the body of a 402.

    Yields a ``SolveStep``, whose result is sent back, and in redeem mode a ``RedeemStep``, to which a ``StepResponse``
    is sent back. The response to an admission toll may be one more toll: for the answer, or for admission again. Before
    the first such work of some length, a ``ProbeStep`` finds out whether the gateway's redeem path can be reached.

    Before an admission toll is paid for the first time, other tolls of the account that are being paid are waited for
    (``WaitStep``), and the request is sent again with their receipts (``ResendStep``, answered like a ``RedeemStep``).
    That is repeated while others are being paid, each time that one of them has ended.

    Returns the opened answer, or None if the last response is to be returned unchanged: the body was no toll, or the
    response is the answer.

    Raises:
        TollMalformed, TollTooDear, SolveStopped, SealBroken: the toll was not paid, or its answer cannot be opened.
    """
    toll = call.find_toll(body)
    if toll is None:
        return None
    with call.purse.receipts.flight(call.account) as flight:
        return (yield from _toll_flow(call, toll, flight))


def _toll_flow(call: TollCall, first: Toll, flight: Flight) -> Flow:
    """The same for a toll."""
    purse, receipts, account, toll = call.purse, call.purse.receipts, call.account, first
    path, admissions, resends = call.path, 0, _MAX_RESENDS if call.repeatable else 0
    until = receipts.until(purse.deadline_seconds)
    may_resend, further = receipts.may_help(account, path, flight), 0.0  # seconds of admission tolls after the first
    while True:
        if toll.admission and resends and may_resend:
            resends -= 1
            yield WaitStep(receipts.turn(account, flight, until))
            response = yield ResendStep()
            assert isinstance(response, StepResponse)
            following = call.find_toll(response.body) if response.status == wire.STATUS else None
            may_resend = receipts.has_others(account, flight) and receipts.clock() < until
        else:
            resends = 0
            admissions += toll.admission
            expected = purse.decide(toll)  # refuse before a thread is used
            further += expected if toll.admission and admissions > 1 else 0.0
            if admissions > _MAX_ADMISSIONS or further > purse.max_seconds:
                raise SealBroken("the server asks for admission again and again")
            if toll.mode == wire.REDEEM and expected >= _PROBED_SECONDS:
                yield from _probe(call, resolved_path(path, toll.redeem))
            receipts.start(account, flight)
            result = yield SolveStep(partial(_solve, call, toll, path, flight))
            if isinstance(result, Answer):
                return result
            assert isinstance(result, Solution)
            path = resolved_path(path, toll.redeem)
            response = yield RedeemStep(_redemption(toll, result), path)
            assert isinstance(response, StepResponse)
            following = _next_toll(toll, response, call)
        if following is None:
            return None
        toll = following


def _probe(call: TollCall, path: str) -> Flow:
    """Ask once whether the redeem path leads to a gateway. A proxy in front may pass on other paths only.

    Raises:
        TollMalformed: it does not.
    """
    url = f"{call.account.origin}{path}"
    if url in call.purse.redeem_urls:
        return None
    response = yield ProbeStep(wire.REDEEM_PROBE, path)
    assert isinstance(response, StepResponse)
    status = response.status
    if status in _LOST_STATUSES or (status < 400 and status != _NO_CONTENT):
        raise TollMalformed(
            f"no work was done, because the toll could not be redeemed: POST {path} is answered with {status}. A proxy in "
            f"front of the gateway must pass on {wire.REDEEM_PATH} beside the model's path"
        )
    call.purse.redeem_urls.add(url)
    return None


def _redemption(toll: Toll, solution: Solution) -> bytes:
    """The body of the redeem request: the proof, or the counters of a puzzle whose solution has no secret."""
    if solution.secret:
        return wire.encode_redemption(toll.payload, proof=seal.proof_of(solution))
    return wire.encode_redemption(toll.payload, counters=solution.counters)


def _next_toll(toll: Toll, response: StepResponse, call: TollCall) -> Toll | None:
    """The toll that follows a solved admission toll, or None if the response is the answer.

    Raises:
        SealBroken: the response is a redirect or an unexpected toll. TollMalformed: see ``wire.find_toll``.
    """
    if is_final_status(response.status):
        return None
    next_toll = None
    if toll.admission and response.status == wire.STATUS:
        next_toll = call.find_toll(response.body)
    if next_toll is None:
        raise SealBroken(f"the server answers a solved toll with {response.status}: a redirect, or another toll")
    return next_toll


def _solve(call: TollCall, toll: Toll, path: str, flight: Flight, cancelled: Cancelled) -> Answer | Solution:
    """Pay the toll: the opened answer in sealed mode, whose receipt is kept, else the solution."""
    flight.enter_thread()
    solution = call.purse.pay(toll, cancelled)
    if toll.mode != wire.SEALED:
        return solution
    opened = seal.open_answer(toll.payload, solution, wire.canonical_challenge(toll.challenge, toll.mode))
    if toll.settle:
        call.purse.receipts.add(call.account, resolved_path(path, toll.settle), opened.receipt, call.owner)
    answer = opened.answer
    if not is_final_status(answer.status):
        raise SealBroken(f"the sealed answer has status {answer.status}: a redirect, or another toll")
    return answer
