"""Tolls, made and redeemed: for an answer, and for the entry of a request that is not dealt with yet."""

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

_TOKEN_SECONDS = 3600.0  # a redeem token lives so long, and ten times its expected work besides
_ENTRY_SECONDS = 60.0  # the token of an entry likewise: a ticket is remembered for as long as it could be shown
_TOKEN_WAITS = 10.0


@dataclass(frozen=True, slots=True)
class AdmittedRequest:
    """A request whose entry puzzle was solved: for which model, where it was sent, and its body with its type."""

    model: str
    path: str
    body: bytes
    content_type: str
    ticket: AdmissionTicket


async def answer_toll(
    chance: GateRuntime, menu: PuzzleSelector, visit: GateRequest, answer: Answer, work: Work
) -> Toll:
    """A toll for an answer."""
    puzzle, mode = menu.choose(work, visit.accept)
    # An evaluation of argon2id takes milliseconds and lets go of the interpreter.
    large = puzzle.name == wire.ARGON2ID or len(answer.body) > LARGE_BYTES
    return await off_loop(large, _answer_toll, chance, visit, answer, work, (puzzle, mode))


def _answer_toll(
    chance: GateRuntime, visit: GateRequest, answer: Answer, work: Work, chosen: tuple[Puzzle, str]
) -> Toll:
    puzzle, mode = chosen
    challenge, solution = puzzle.make(work, chance.rng)
    typical = expected_seconds(challenge, chance.profile)
    if mode == wire.SEALED and solution is not None:
        associated = wire.canonical_challenge(challenge, mode)
        return Toll(mode, challenge, seal.seal_answer(answer, solution, associated, chance.rng), work.rows, typical)
    claim = _claim(chance, visit, answer, (challenge, solution), _TOKEN_SECONDS + _TOKEN_WAITS * typical)
    token = seal.seal_token(chance.ring, claim, chance.rng)
    return Toll(mode, challenge, token, work.rows, typical, int(claim.expires))


def admission_toll(chance: GateRuntime, menu: PuzzleSelector, visit: GateRequest, model: str, work: Work) -> Toll:
    """A toll for the entry of a request: its token holds the request, so that the gateway need not keep it."""
    accept = wire.Accept(visit.accept.puzzles, wire.REDEEM, visit.accept.memory_kib)
    puzzle, mode = menu.choose(work, accept)
    challenge, solution = puzzle.make(work, chance.rng)
    typical = expected_seconds(challenge, chance.profile)
    request = Answer(wire.STATUS, visit.content_type, visit.body)
    claim = _claim(
        chance, visit, request, (challenge, solution), _ENTRY_SECONDS + _TOKEN_WAITS * typical, (model, visit.path)
    )
    token = seal.seal_token(chance.ring, claim, chance.rng)
    return Toll(mode, challenge, token, work.rows, typical, int(claim.expires), admission=True)


def _claim(
    chance: GateRuntime,
    visit: GateRequest,
    answer: Answer,
    puzzle: tuple[Challenge, Solution | None],
    seconds: float,
    entry: tuple[str, str] | None = None,
) -> seal.RedeemClaim:
    (challenge, solution), now = puzzle, chance.clock()
    return seal.RedeemClaim(
        answer=answer,
        challenge=challenge,
        solution_digest=seal.digest_solution(solution.counters) if solution else b"",
        expires=now + seconds,
        caller=visit.caller.name,
        request_digest=hashlib.sha256(visit.body).digest(),
        issued=now,
        admission=entry,
    )


def redeem(chance: GateRuntime, caller: Caller, body: bytes) -> Answer | AdmittedRequest:
    """Exchange a token and its puzzle's solution for what the token holds.

    An answer shown twice gives the same bytes. An entered request carries a ticket, which lets it in once.

    Raises:
        RequestError: not a redemption. TokenRefused: forged, foreign, expired or not solved.
    """
    try:
        token, counters = wire.decode_redemption(body)
    except TollMalformed as error:
        raise RequestError(str(error)) from None
    claim = seal.open_token(chance.ring, token, caller.name, chance.clock())
    bought = seal.redeem_claim(claim, counters)
    if claim.admission is None:
        return bought
    model, path = claim.admission
    return AdmittedRequest(
        model, path, bought.body, bought.content_type, AdmissionTicket(claim.challenge.parts[0].seed, claim.expires)
    )
