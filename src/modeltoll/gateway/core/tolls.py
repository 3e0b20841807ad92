"""Makes and redeems tolls: for an answer, and for the admission of a request."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from modeltoll import wire
from modeltoll.errors import RequestError, TokenRefused, TollMalformed
from modeltoll.gateway.core.padding import MOST_BYTES, padded_length
from modeltoll.gateway.threads import LARGE_BYTES, off_loop_by_size
from modeltoll.gateway.upstream.upstream import NO_HEAD, RequestHead
from modeltoll.puzzle import seal
from modeltoll.puzzle.puzzle import expected_seconds
from modeltoll.record_init import quick_init
from modeltoll.records import Answer, Work
from modeltoll.toll_records import Toll

if TYPE_CHECKING:
    from modeltoll.gateway.core.puzzle_selector import PuzzleSelector
    from modeltoll.gateway.core.request import GateRequest, GateRuntime
    from modeltoll.puzzle.puzzle import Puzzle
    from modeltoll.records import Caller
    from modeltoll.settlement_records import Receipt
    from modeltoll.toll_records import Challenge, Solution

__all__ = ["AdmittedRequest", "TollContent", "admission_toll", "answer_toll", "paid_by_digest", "redeem"]

# A token lives for this many seconds, and for _TOKEN_WAITS times its expected work besides.
_TOKEN_SECONDS = 3600.0
_ADMISSION_SECONDS = 60.0
_TOKEN_WAITS = 10.0
# A puzzle that is made in fewer reference seconds is made at once: a switch to another thread takes 0.1 ms, and under load that
# thread waits for the interpreter besides.
_QUICK_SECONDS = 0.4e-3
_SEAL_HEAD_BYTES = 14  # numbers before the body of a sealed answer
_BY_DIGEST = "application/x-modeltoll-digest"  # in place of a content type, in a token that does not hold its request
_TOKEN_HEAD_BYTES = 2048  # for what a token holds beside its answer, whose length may vary with the price


@quick_init
@dataclass(frozen=True, slots=True)
class TollContent:
    """What a toll for an answer holds: the answer, its receipt, and the receipt encrypted, as the caller carries it.

    ``answer_bound`` is that of the request; ``dither``, in [0, 1), is fixed for what the model reads; ``max_answer`` is
    the size of the largest answer that the gateway takes from its upstream.
    """

    answer: Answer
    receipt: Receipt
    encrypted_receipt: bytes
    answer_bound: int | None
    dither: float
    max_answer: int = MOST_BYTES

    @property
    def length(self) -> int:
        """The length in bytes to which the answer's body is padded."""
        return padded_length(len(self.answer.body), self.answer_bound, self.dither, self.max_answer)


@dataclass(frozen=True, slots=True)
class AdmittedRequest:
    """A request whose admission toll was paid: its model, its upstream path, its body and content type, and the receipt.

    ``head`` is what the model server reads of its query and headers; those of traces are the redemption's own.
    """

    model: str
    path: str
    body: bytes
    content_type: str
    payment: Receipt
    head: RequestHead = NO_HEAD


async def answer_toll(
    runtime: GateRuntime, selector: PuzzleSelector, request: GateRequest, content: TollContent, work: Work
) -> Toll:
    """A toll of ``work`` for an answer. A client that keeps no receipts redeems it: redeeming settles."""
    accept = request.accept
    puzzle, mode = selector.choose(work, accept, "" if accept.receipts else wire.REDEEM)
    hashed = 0 if mode == wire.SEALED else len(request.body)
    size = _thread_size(content.length, hashed, puzzle, work)
    return await off_loop_by_size(size, _answer_toll, runtime, request, content, work, (puzzle, mode))


def _thread_size(size: int, hashed: int, puzzle: Puzzle, work: Work) -> int:
    """The size by which ``off_loop_by_size`` chooses the thread, of a toll that holds ``size`` bytes.

    It is that of a large body, at least, where many bytes are hashed or the puzzle is slow to make.
    """
    is_slow = hashed > LARGE_BYTES or puzzle.making_seconds(work) > _QUICK_SECONDS
    return max(size, LARGE_BYTES + 1) if is_slow else size


def _answer_toll(
    runtime: GateRuntime, request: GateRequest, content: TollContent, work: Work, chosen: tuple[Puzzle, str]
) -> Toll:
    puzzle, mode = chosen
    challenge, solution = puzzle.make(work, runtime.rng)
    expected = expected_seconds(challenge, runtime.profile)
    if mode == wire.SEALED and solution is not None:
        associated = wire.canonical_challenge(challenge, mode)
        head = _SEAL_HEAD_BYTES + len(content.answer.content_type) + len(content.encrypted_receipt)
        sealed = seal.seal_answer(
            content.answer,
            solution,
            associated,
            runtime.rng,
            receipt=content.encrypted_receipt,
            length=head + content.length,
        )
        return Toll(mode, challenge, sealed, work.rows, expected, settles=True)
    seconds = _TOKEN_SECONDS + _TOKEN_WAITS * expected
    claim = _claim(runtime, request, content.answer, (challenge, solution), (seconds, content.receipt))
    token = seal.encrypt_token(runtime.key_ring, claim, runtime.rng, length=_TOKEN_HEAD_BYTES + content.length)
    return Toll(mode, challenge, token, work.rows, expected, int(claim.expires))


async def admission_toll(
    runtime: GateRuntime, selector: PuzzleSelector, request: GateRequest, model: str, work: Work, payment: Receipt
) -> Toll:
    """A toll for the admission of a request. Its token holds the request or its digest, so that the gateway need not keep it.

    ``payment``: what the redeemed token counts for.
    """
    puzzle, mode = selector.choose(work, request.accept, wire.REDEEM)
    size = _thread_size(0 if request.by_digest else len(request.body), len(request.body), puzzle, work)
    return await off_loop_by_size(size, _admission_toll, runtime, request, model, (puzzle, mode), (work, payment))


def _admission_toll(
    runtime: GateRuntime,
    request: GateRequest,
    model: str,
    chosen: tuple[Puzzle, str],
    terms: tuple[Work, Receipt],
) -> Toll:
    (puzzle, mode), (work, payment) = chosen, terms
    challenge, solution = puzzle.make(work, runtime.rng)
    expected = expected_seconds(challenge, runtime.profile)
    request_in_token = Answer(wire.STATUS, request.content_type, request.body)
    if request.by_digest:
        request_in_token = Answer(wire.STATUS, _BY_DIGEST, b"")
    seconds = _ADMISSION_SECONDS + _TOKEN_WAITS * expected
    payment = replace(payment, expires=runtime.clock() + seconds)
    claim = _claim(
        runtime, request, request_in_token, (challenge, solution), (seconds, payment), _admission(model, request)
    )
    token = seal.encrypt_token(
        runtime.key_ring, claim, runtime.rng, length=_TOKEN_HEAD_BYTES + len(request_in_token.body)
    )
    return Toll(mode, challenge, token, work.rows, expected, int(claim.expires), admission=True)


def _admission(model: str, request: GateRequest) -> tuple[str, ...]:
    """What an admission's token holds beside the body: the model, the path, and what the model reads of the head."""
    head = request.head
    if not (head.query or head.read_headers):
        return model, request.path
    return model, request.path, head.query, *(text for pair in head.read_headers for text in pair)


def _claim(
    runtime: GateRuntime,
    request: GateRequest,
    answer: Answer,
    puzzle: tuple[Challenge, Solution | None],
    terms: tuple[float, Receipt],
    admission: tuple[str, ...] | None = None,
) -> seal.RedeemClaim:
    """What a token holds. ``terms``: seconds until it expires, and its receipt. ``admission``: of ``_admission``."""
    (challenge, solution), (seconds, receipt), now = puzzle, terms, runtime.clock()
    return seal.RedeemClaim(
        answer=answer,
        challenge=challenge,
        proof_digest=seal.digest_proof(seal.proof_of(solution)) if solution else b"",
        expires=now + seconds,
        caller=request.caller.name,
        request_digest=hashlib.sha256(request.body).digest(),
        issued=now,
        admission=admission,
        receipt=receipt,
    )


def redeem(runtime: GateRuntime, caller: Caller, body: bytes) -> tuple[Answer | AdmittedRequest, Receipt]:
    """Exchange a token and the proof of its work for what the token holds, and its receipt, which the ledger must count.

    A token of an answer gives the same bytes each time. That of an admission gives its request each time, and its receipt
    counts once.

    Raises:
        RequestError: the body is not a redemption. TokenRefused: the token is forged, another caller's, expired or not
            solved.
    """
    claim, receipt = _solved(runtime, caller, body)
    answer = claim.answer
    if claim.admission is None:
        return answer, receipt
    if answer.content_type == _BY_DIGEST:
        raise TokenRefused(seal.REFUSED, private="a token of a request's digest, without the request")
    model, path, query, *read = (*claim.admission, "") if len(claim.admission) == 2 else claim.admission
    head = RequestHead(query, (), tuple(zip(read[::2], read[1::2], strict=True)))
    return AdmittedRequest(model, path, answer.body, answer.content_type, receipt, head), receipt


def paid_by_digest(runtime: GateRuntime, model: str, request: GateRequest, body: bytes) -> Receipt:
    """The receipt of an admission toll that was paid for this very request: the same caller, bytes, model and head.

    The ledger counts it once. ``body``: the token and the proof of its work, as ``wire.encode_redemption`` writes them.

    Raises:
        RequestError: that is no redemption. TokenRefused: the token is forged, expired, not solved, or for anything else.
    """
    claim, receipt = _solved(runtime, request.caller, body)
    digest = hashlib.sha256(request.body).digest()
    if claim.answer.content_type != _BY_DIGEST or claim.admission != _admission(model, request):
        raise TokenRefused(seal.REFUSED, private="not a token of a request's digest, or of another model, path or head")
    if not hmac.compare_digest(claim.request_digest, digest):
        raise TokenRefused(seal.REFUSED, private="a token of another request")
    return receipt


def _solved(runtime: GateRuntime, caller: Caller, body: bytes) -> tuple[seal.RedeemClaim, Receipt]:
    """What a token holds whose work was done, and its receipt; raises as ``redeem``."""
    try:
        redemption = wire.decode_redemption(body)
    except TollMalformed as error:
        raise RequestError(str(error)) from None
    claim = seal.decrypt_token(runtime.key_ring, redemption.token, caller.name, runtime.clock())
    seal.redeem_claim(claim, redemption)
    assert claim.receipt is not None  # every token of a gateway holds one
    return claim, claim.receipt
