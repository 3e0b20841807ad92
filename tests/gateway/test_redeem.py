"""A token is valid for one caller, one solution and a limited time; redeemed twice, it gives the same bytes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeltoll import wire
from modeltoll.errors import RequestError, TokenExpired, TokenRefused
from modeltoll.gateway.core.tolls import redeem
from modeltoll.puzzle.puzzle import SolveControl
from modeltoll.puzzle.seal import REFUSED
from modeltoll.puzzle.solver import solve

REDEEMED = wire.Accept(mode="redeem")


@pytest.fixture(params=["sha256", "argon2id", "hashcash"])
def issued(harness, request):
    """A harness, a toll for Alice in redeem mode, and its solution."""
    harness.allowed_puzzles, harness.tariff = (request.param,), harness.tariff
    harness.modes = ("redeem",)
    toll = harness.handle(harness.infer_body([1, 2]), accept=REDEEMED).toll
    assert (toll.mode, toll.challenge.puzzle) == ("redeem", request.param)
    return harness, toll, solve(toll.challenge, SolveControl()).counters


def refused(harness, token, counters, caller=None):
    """The public and the private reason of a refusal."""
    with pytest.raises(TokenRefused) as caught:
        redeem(harness.runtime, caller or harness.alice, wire.encode_redemption(token, counters))
    return str(caught.value), caught.value.private


def test_a_solution_gives_the_same_answer_each_time(issued):
    harness, toll, counters = issued
    body = wire.encode_redemption(toll.payload, counters)
    answers = [redeem(harness.runtime, harness.alice, body) for _ in range(3)]
    assert answers == [harness.answer(harness.confident_scores(1))] * 3
    assert len(harness.log()) == 1  # it was priced when it was asked for


def test_a_wrong_solution_is_refused_without_a_reason(issued):
    harness, toll, counters = issued
    for wrong in ((counters[0] + 1,), (*counters, 0), (*counters, *counters), (2**64 - 1,)):
        assert refused(harness, toll.payload, wrong)[0] == REFUSED


def test_a_token_of_another_caller_is_refused(issued):
    harness, toll, counters = issued
    public, _ = refused(harness, toll.payload, counters, harness.bob)
    assert public == REFUSED
    assert "alice" not in public


def test_a_forged_or_truncated_token_is_refused(issued):
    harness, toll, counters = issued
    token = toll.payload
    for forged in (b"", token[:4], token[:20], token[:-1], token + b"\0", bytes(len(token))):
        assert refused(harness, forged, counters)[0] == REFUSED
    for place in range(0, len(token), 7):
        changed = bytearray(token)
        changed[place] ^= 1
        assert refused(harness, bytes(changed), counters)[0] == REFUSED


def test_a_token_expires(issued):
    harness, toll, counters = issued
    harness.clock.advance(3599)
    assert redeem(harness.runtime, harness.alice, wire.encode_redemption(toll.payload, counters)).status == 200
    harness.clock.advance(60 + 10 * toll.typical_seconds)
    with pytest.raises(TokenExpired) as caught:
        redeem(harness.runtime, harness.alice, wire.encode_redemption(toll.payload, counters))
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
    "deep nesting": b"[" * 100_000,
}


@pytest.mark.parametrize("body", NO_REDEMPTIONS.values(), ids=NO_REDEMPTIONS)
def test_a_malformed_redemption_is_a_request_error(harness, body):
    with pytest.raises(RequestError):
        redeem(harness.runtime, harness.alice, body)


@given(token=st.binary(max_size=200), counters=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=16))
def test_random_tokens_are_refused(token, counters):
    harness = HARNESS[0]
    assert refused(harness, token, tuple(counters))[0] == REFUSED


HARNESS = []


@pytest.fixture(autouse=True)
def _harness_for_hypothesis(harness):
    """Hypothesis runs many examples in one test; they share one harness."""
    HARNESS[:] = [harness]
