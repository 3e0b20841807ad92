"""Tokens: good for one caller, for one solution, for a while; shown twice they give the same bytes."""

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
def issued(town, request):
    """A town, a toll of Alice's in redeem mode, and its solution."""
    town.allow, town.tariff = (request.param,), town.tariff
    town.modes = ("redeem",)
    toll = town.visit(town.ask([1, 2]), accept=REDEEMED).toll
    assert (toll.mode, toll.challenge.puzzle) == ("redeem", request.param)
    return town, toll, solve(toll.challenge, SolveControl()).counters


def refused(town, token, counters, caller=None):
    """The public and the private reason of a refusal."""
    with pytest.raises(TokenRefused) as caught:
        redeem(town.chance, caller or town.alice, wire.encode_redemption(token, counters))
    return str(caught.value), caught.value.private


def test_the_solution_buys_the_answer_as_often_as_it_is_shown(issued):
    town, toll, counters = issued
    body = wire.encode_redemption(toll.payload, counters)
    answers = [redeem(town.chance, town.alice, body) for _ in range(3)]
    assert answers == [town.say(town.sure(1))] * 3
    assert len(town.log()) == 1  # it was priced when it was asked for


def test_a_wrong_solution_buys_nothing_and_no_reason_is_given(issued):
    town, toll, counters = issued
    for wrong in ((counters[0] + 1,), (*counters, 0), (*counters, *counters), (2**64 - 1,)):
        assert refused(town, toll.payload, wrong)[0] == REFUSED


def test_a_token_of_another_caller_buys_nothing(issued):
    town, toll, counters = issued
    public, _ = refused(town, toll.payload, counters, town.bob)
    assert public == REFUSED
    assert "alice" not in public


def test_a_forged_or_truncated_token_buys_nothing(issued):
    town, toll, counters = issued
    token = toll.payload
    for forged in (b"", token[:4], token[:20], token[:-1], token + b"\0", bytes(len(token))):
        assert refused(town, forged, counters)[0] == REFUSED
    for place in range(0, len(token), 7):
        changed = bytearray(token)
        changed[place] ^= 1
        assert refused(town, bytes(changed), counters)[0] == REFUSED


def test_a_token_expires(issued):
    town, toll, counters = issued
    town.clock.advance(3599)
    assert redeem(town.chance, town.alice, wire.encode_redemption(toll.payload, counters)).status == 200
    town.clock.advance(60 + 10 * toll.typical_seconds)
    with pytest.raises(TokenExpired) as caught:
        redeem(town.chance, town.alice, wire.encode_redemption(toll.payload, counters))
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
def test_what_is_no_redemption_is_a_request_error(town, body):
    with pytest.raises(RequestError):
        redeem(town.chance, town.alice, body)


@given(token=st.binary(max_size=200), counters=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=16))
def test_no_token_of_chance_buys_anything(token, counters):
    town = TOWN[0]
    assert refused(town, token, tuple(counters))[0] == REFUSED


TOWN = []


@pytest.fixture(autouse=True)
def _town_for_hypothesis(town):
    """Hypothesis runs many examples in one test; they share a town."""
    TOWN[:] = [town]
