"""A token is valid for one caller, one proof and a limited time; redeemed twice, it gives the same bytes."""

from __future__ import annotations

import asyncio
import json
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeltoll import wire
from modeltoll.errors import RequestError, TokenExpired, TokenRefused
from modeltoll.gateway.core import tolls
from modeltoll.gateway.core.tolls import TollContent, admission_toll, answer_toll, redeem
from modeltoll.gateway.threads import LARGE_BYTES
from modeltoll.puzzle.puzzle import SolveControl
from modeltoll.puzzle.seal import REFUSED
from modeltoll.puzzle.solver import solve
from modeltoll.records import Answer, Work
from modeltoll.settlement_records import RECEIPT_BYTES, Receipt

REDEEMED = wire.Accept(mode="redeem")
PUZZLES = ["sha256", "argon2id", "hashcash", "timelock"]


@pytest.fixture(params=PUZZLES)
def issued(harness, request):
    """A harness, a toll for Alice in redeem mode, and what redeems it."""
    harness.allowed_puzzles, harness.modes = (request.param,), ("redeem",)
    toll = harness.handle(harness.infer_body([1, 2]), accept=REDEEMED).toll
    assert (toll.mode, toll.challenge.puzzle) == ("redeem", request.param)
    return harness, toll, harness.redemption(toll)


def refused(harness, redemption, caller=None):
    """The public and the private reason of a refusal."""
    with pytest.raises(TokenRefused) as caught:
        redeem(harness.runtime, caller or harness.alice, redemption)
    return str(caught.value), caught.value.private


def test_a_proof_gives_the_same_answer_and_the_same_receipt_each_time(issued):
    harness, _, redemption = issued
    redeemed = {redeem(harness.runtime, harness.alice, redemption) for _ in range(3)}
    assert len(redeemed) == 1
    answer, receipt = redeemed.pop()
    assert answer == harness.answer(harness.confident_scores(1))
    assert (receipt.rows, receipt.unsettled > 0.0) == (1, True)
    assert len(harness.log()) == 1  # it was priced when it was asked for


def test_a_wrong_proof_or_counter_is_refused_without_a_reason(issued):
    harness, toll, redemption = issued
    right = wire.decode_redemption(redemption)
    for wrong in (bytes(32), right.proof[::-1] or b"\1" * 32, toll.challenge.parts[0].check * 2 or b"\2" * 32):
        assert refused(harness, wire.encode_redemption(toll.payload, proof=wrong))[0] == REFUSED
    for wrong in ((2**64 - 1,), (*right.counters, 0), (1, 2)):
        assert refused(harness, wire.encode_redemption(toll.payload, counters=wrong))[0] == REFUSED


@pytest.mark.parametrize("puzzle", ["sha256", "argon2id"])
def test_the_right_counters_without_the_proof_buy_nothing(harness, puzzle):
    """A counter can be guessed; the secret half of its evaluation cannot."""
    harness.allowed_puzzles, harness.modes = (puzzle,), ("redeem",)
    toll = harness.handle(harness.infer_body([1, 2]), accept=REDEEMED).toll
    counters = solve(toll.challenge, SolveControl()).counters
    assert refused(harness, wire.encode_redemption(toll.payload, counters=counters))[0] == REFUSED
    if len(toll.challenge.parts) == 1 and toll.challenge.parts[0].bound < 1000:
        for counter in range(toll.challenge.parts[0].bound):
            assert refused(harness, wire.encode_redemption(toll.payload, counters=(counter,)))[0] == REFUSED


def test_a_token_of_another_caller_is_refused(issued):
    harness, _, redemption = issued
    public, _ = refused(harness, redemption, harness.bob)
    assert public == REFUSED
    assert "alice" not in public


def test_a_forged_or_truncated_token_is_refused(issued):
    harness, toll, redemption = issued
    right, token = wire.decode_redemption(redemption), toll.payload

    def redemption_of(forged):
        return wire.encode_redemption(forged, proof=right.proof, counters=right.counters)

    for forged in (b"", token[:4], token[:20], token[:-1], token + b"\0", bytes(len(token))):
        assert refused(harness, redemption_of(forged))[0] == REFUSED
    for place in range(0, len(token), 37):
        changed = bytearray(token)
        changed[place] ^= 1
        assert refused(harness, redemption_of(bytes(changed)))[0] == REFUSED


def test_a_token_expires(issued):
    harness, toll, redemption = issued
    harness.clock.advance(3599)
    assert redeem(harness.runtime, harness.alice, redemption)[0].status == 200
    harness.clock.advance(60 + 10 * toll.typical_seconds)
    with pytest.raises(TokenExpired) as caught:
        redeem(harness.runtime, harness.alice, redemption)
    assert caught.value.status == 410


NO_REDEMPTIONS = {
    "not JSON": b"{",
    "not an object": b"[]",
    "no token": b'{"solution":[1]}',
    "no solution": b'{"token":"AAAA"}',
    "an empty solution": b'{"token":"AAAA","solution":[]}',
    "a negative counter": b'{"token":"AAAA","solution":[-1]}',
    "a broken counter": b'{"token":"AAAA","solution":[1.0]}',
    "a counter beyond 8 bytes": b'{"token":"AAAA","solution":[18446744073709551616]}',
    "a thousand counters": json.dumps({"token": "AAAA", "solution": [0] * 1000}).encode(),
    "a token that is not base64url": b'{"token":"A+/=","solution":[1]}',
    "a proof that is too short": b'{"token":"AAAA","proof":"AAAA"}',
    "a proof and a solution": json.dumps({"token": "AAAA", "solution": [1], "proof": "A" * 43}).encode(),
    "deep nesting": b"[" * 100_000,
}


@pytest.mark.parametrize("body", NO_REDEMPTIONS.values(), ids=NO_REDEMPTIONS)
def test_a_malformed_redemption_is_a_request_error(harness, body):
    with pytest.raises(RequestError):
        redeem(harness.runtime, harness.alice, body)


@given(token=st.binary(max_size=200), counters=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=16))
def test_random_tokens_are_refused(token, counters):
    assert refused(HARNESS[0], wire.encode_redemption(token, counters=tuple(counters)))[0] == REFUSED


@given(token=st.binary(max_size=200), proof=st.binary(min_size=32, max_size=32))
def test_random_proofs_are_refused(token, proof):
    assert refused(HARNESS[0], wire.encode_redemption(token, proof=proof))[0] == REFUSED


HARNESS = []


@pytest.fixture(autouse=True)
def _harness_for_hypothesis(harness):
    """Hypothesis runs many examples in one test; they share one harness."""
    HARNESS[:] = [harness]


@pytest.mark.parametrize("body", [b"{}", bytes(LARGE_BYTES + 1)])
def test_the_event_loop_does_not_wait_for_the_digest_of_a_large_request(harness, monkeypatch, body):
    """A token holds the digest of its request, whether or not it holds the request or its answer is small."""
    claim, made_in = tolls._claim, []
    monkeypatch.setattr(tolls, "_claim", lambda *terms: made_in.append(threading.current_thread()) or claim(*terms))
    request, receipt = harness.request(body, accept=REDEEMED, by_digest=True), Receipt(bytes(RECEIPT_BYTES), 1.0)
    selector, work = harness.gate().config.selector, Work(1e-4, 1, 1e-4)
    content = TollContent(Answer(200, "application/json", b"{}"), receipt, b"", None, 0.0)
    asyncio.run(answer_toll(harness.runtime, selector, request, content, work))
    asyncio.run(admission_toll(harness.runtime, selector, request, "iris", work, receipt))
    assert [thread is threading.main_thread() for thread in made_in] == [len(body) <= LARGE_BYTES] * 2
