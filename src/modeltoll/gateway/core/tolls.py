"""Makes and redeems tolls: for an answer, and for the admission of a request."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modeltoll import wire
from modeltoll.errors import RequestError, TollMalformed
from modeltoll.gateway.core.admission import AdmissionTicket
from modeltoll.gateway.core.threads import LARGE_BYTES, off_loop
from modeltoll.puzzle import seal
from modeltoll.puzzle.puzzle import expected_seconds
from modeltoll.records import Answer, Toll

if TYPE_CHECKING:
    from modeltoll.gateway.core.puzzle_selector import PuzzleSelector
    from modeltoll.gateway.core.request import GateRequest, GateRuntime
    from modeltoll.puzzle.puzzle import Puzzle
    from modeltoll.records import Caller, Challenge, Solution, Work

__all__ = ["AdmittedRequest", "admission_toll", "answer_toll", "redeem"]

# A token lives for this many seconds, and for _TOKEN_WAITS times its expected work besides.
_TOKEN_SECONDS = 3600.0
_ADMISSION_SECONDS = 60.0  # short: used tickets are kept in memory until their tokens expire
_TOKEN_WAITS = 10.0


@dataclass(frozen=True, slots=True)
class AdmittedRequest:
    """A request whose admission puzzle was solved: its model, its upstream path, and its body with its content type."""

    model: str
    path: str
    body: bytes
    content_type: str
    ticket: AdmissionTicket


async def answer_toll(
    runtime: GateRuntime, selector: PuzzleSelector, request: GateRequest, answer: Answer, work: Work
) -> Toll:
    """A toll for an answer."""
    puzzle, mode = selector.choose(work, request.accept)
    # An evaluation of argon2id takes milliseconds and releases the interpreter lock.
    large = puzzle.name == wire.ARGON2ID or len(answer.body) > LARGE_BYTES
    return await off_loop(large, _answer_toll, runtime, request, answer, work, (puzzle, mode))


def _answer_toll(
    runtime: GateRuntime, request: GateRequest, answer: Answer, work: Work, chosen: tuple[Puzzle, str]
) -> Toll:
    puzzle, mode = chosen
    challenge, solution = puzzle.make(work, runtime.rng)
    expected = expected_seconds(challenge, runtime.profile)
    if mode == wire.SEALED and solution is not None:
        associated = wire.canonical_challenge(challenge, mode)
        return Toll(mode, challenge, seal.seal_answer(answer, solution, associated, runtime.rng), work.rows, expected)
    claim = _claim(runtime, request, answer, (challenge, solution), _TOKEN_SECONDS + _TOKEN_WAITS * expected)
    token = seal.seal_token(runtime.key_ring, claim, runtime.rng)
    return Toll(mode, challenge, token, work.rows, expected, int(claim.expires))


def admission_toll(
    runtime: GateRuntime, selector: PuzzleSelector, request: GateRequest, model: str, work: Work
) -> Toll:
    """A toll for the admission of a request. Its token holds the request, so that the gateway need not keep it."""
    accept = wire.Accept(request.accept.puzzles, wire.REDEEM, request.accept.memory_kib)
    puzzle, mode = selector.choose(work, accept)
    challenge, solution = puzzle.make(work, runtime.rng)
    expected = expected_seconds(challenge, runtime.profile)
    request_in_token = Answer(wire.STATUS, request.content_type, request.body)
    seconds = _ADMISSION_SECONDS + _TOKEN_WAITS * expected
    claim = _claim(runtime, request, request_in_token, (challenge, solution), seconds, (model, request.path))
    token = seal.seal_token(runtime.key_ring, claim, runtime.rng)
    return Toll(mode, challenge, token, work.rows, expected, int(claim.expires), admission=True)


def _claim(
    runtime: GateRuntime,
    request: GateRequest,
    answer: Answer,
    puzzle: tuple[Challenge, Solution | None],
    seconds: float,
    admission: tuple[str, str] | None = None,
) -> seal.RedeemClaim:
    """What a token holds; it expires in ``seconds``. ``admission`` is (model, path) of a request to be admitted."""
    (challenge, solution), now = puzzle, runtime.clock()
    return seal.RedeemClaim(
        answer=answer,
        challenge=challenge,
        solution_digest=seal.digest_solution(solution.counters) if solution else b"",
        expires=now + seconds,
        caller=request.caller.name,
        request_digest=hashlib.sha256(request.body).digest(),
        issued=now,
        admission=admission,
    )


def redeem(runtime: GateRuntime, caller: Caller, body: bytes) -> Answer | AdmittedRequest:
    """Exchange a token and its puzzle's solution for what the token holds.

    A token of an answer gives the same bytes each time. An admitted request carries a ticket that can be used once.

    Raises:
        RequestError: the body is not a redemption. TokenRefused: the token is forged, another caller's, expired or not
            solved.
    """
    try:
        token, counters = wire.decode_redemption(body)
    except TollMalformed as error:
        raise RequestError(str(error)) from None
    claim = seal.open_token(runtime.key_ring, token, caller.name, runtime.clock())
    answer = seal.redeem_claim(claim, counters)
    if claim.admission is None:
        return answer
    model, path = claim.admission
    return AdmittedRequest(
        model, path, answer.body, answer.content_type, AdmissionTicket(claim.challenge.parts[0].seed, claim.expires)
    )
