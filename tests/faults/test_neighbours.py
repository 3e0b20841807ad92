"""Neighbours that misbehave: a model server that comes and goes, a ledger that is slow or dead, a clock that jumps."""

from __future__ import annotations

import asyncio
import itertools
import math
import random

import numpy as np
import pytest
from starlette.testclient import TestClient

from modeltoll import wire
from modeltoll.errors import AnswerError, LedgerError, TokenExpired, UpstreamError, UpstreamTimeout
from modeltoll.gateway.core.request import GateRequest
from modeltoll.gateway.core.tolls import redeem
from modeltoll.gateway.public.app import application
from modeltoll.ledger.locate import ledger_from_url
from modeltoll.puzzle.puzzle import SolveControl
from modeltoll.puzzle.solver import solve
from modeltoll.records import Answer, Caller
from modeltoll.testing.servers import postgres_server, valkey_server
from modeltoll.wire import Accept

KEY = {"x-api-key": "alice-key"}
CALLERS = 10_000


def test_of_a_model_server_that_flaps_only_its_good_answers_are_charged_and_released(town):
    faults = [
        UpstreamError("down"),
        UpstreamTimeout("slow"),
        AnswerError("compressed"),
        Answer(500, "text/plain", b"oops"),
        Answer(200, "text/html", b"<html>"),
        Answer(200, "application/json", b'{"outputs": []}'),
        Answer(200, "application/json", b"\xff" * 100),
        Answer(204, "application/json", b""),
    ]
    moods = itertools.cycle([None, *faults, None])
    good = town.upstream.handler

    def says(path, body):
        mood = next(moods)
        if isinstance(mood, Exception):
            raise mood
        return good(path, body) if mood is None else mood

    town.upstream.handler = says
    client = TestClient(application(town.house()), raise_server_exceptions=False)
    statuses = [client.post(town.path, content=town.ask([n, n]), headers=KEY).status_code for n in range(50)]
    assert {status: statuses.count(status) for status in set(statuses)} == {402: 10, 502: 35, 504: 5}
    assert (town.account().rows, town.account().requests, len(town.log())) == (10, 10, 10)


def test_ten_thousand_callers_at_once_each_have_an_account_and_a_toll(town):
    town.allow = ("sha256",)
    gate = town.gate()

    async def all_at_once():
        visits = [GateRequest(Caller(f"key:{n}"), town.path, town.ask([n, 1]), Accept()) for n in range(CALLERS)]
        return await asyncio.gather(*(gate.visit(visit) for visit in visits))

    passages = asyncio.run(all_at_once())
    accounts = asyncio.run(town.ledger.largest(2 * CALLERS, town.clock()))
    assert {passage.mode for passage in passages} == {"sealed"}
    assert {account.rows for account in accounts} == {1}
    assert len(accounts) == CALLERS


JUMPS = [1.0, -3600.0, 1e9, -1e9, 0.0, 86_400.0 * 400, -86_400.0 * 800]


def test_a_clock_that_jumps_changes_no_row_count_and_no_price_is_spoilt_by_it(town):
    """Forward by decades and back: counts stay finite and within what was seen, and the row price is the same."""
    prices = []
    for number, jump in enumerate(JUMPS):
        town.clock.now = max(0.0, town.clock() + jump)
        passage = town.visit(town.ask([number, 2]))
        prices.append(passage.work.seconds)
        account = town.account()
        assert account.rows == number + 1
        counts = np.array(account.counts)
        assert np.isfinite(counts).all()
        assert counts.min() >= 0
        assert counts.sum() <= number + 1 + 1e-9
    assert all(math.isclose(price, prices[0]) for price in prices)


def test_a_token_is_judged_by_the_clock_of_its_redemption(town):
    """Expired when the clock has jumped ahead, good again when it is put right: nothing is remembered of the refusal."""
    town.modes = ("redeem",)
    toll = town.visit(town.ask([1, 2])).toll
    counters = solve(toll.challenge, SolveControl()).counters
    body = wire.encode_redemption(toll.payload, counters)
    town.clock.advance(1e6)
    with pytest.raises(TokenExpired):
        redeem(town.chance, town.alice, body)
    town.clock.advance(-1e6)
    assert redeem(town.chance, town.alice, body).status == 200


@pytest.mark.parametrize("server", [postgres_server, valkey_server])
def test_while_the_ledger_is_dead_the_declared_choice_is_kept_and_afterwards_everything_goes_on(town, server):
    """``refuse`` releases nothing; ``release`` asks the row price, says so, and charges again when the ledger is back."""
    with server() as running:
        town.ledger = ledger_from_url(running.url)

        async def story():
            refusing, town.without_ledger = town.gate(), True
            releasing = town.gate()
            await town.ledger.open()
            before = await refusing.visit(town.request(town.ask([1, 1])))
            await asyncio.to_thread(running.kill)
            with pytest.raises(LedgerError) as caught:
                await refusing.visit(town.request(town.ask([2, 2])))
            meanwhile = await releasing.visit(town.request(town.ask([3, 3])))
            await asyncio.to_thread(running.start)
            after = await refusing.visit(town.request(town.ask([4, 4])))
            await town.ledger.close()
            return before, caught.value, meanwhile, after

        before, error, meanwhile, after = asyncio.run(story())
    assert error.status == 503
    assert "hunter2" not in str(error) + error.private
    assert (before.remembered, meanwhile.remembered, after.remembered) == (True, False, True)
    assert meanwhile.toll is not None
    assert meanwhile.answer is None
    assert math.isclose(meanwhile.work.seconds, before.work.rows_seconds)


@pytest.mark.parametrize("server", [postgres_server, valkey_server])
def test_a_ledger_that_hangs_is_given_up_and_nobody_gets_an_answer_meanwhile(town, server):
    with server() as running:
        town.ledger = ledger_from_url(running.url)

        async def story():
            gate = town.gate()
            await town.ledger.open()
            town.ledger._server._timeout = 0.3
            with running.paused(), pytest.raises(LedgerError):
                await gate.visit(town.request(town.ask([1, 1])))
            town.ledger._server._timeout = 30.0
            passage = await gate.visit(town.request(town.ask([2, 2])))
            account = await town.ledger.account(town.alice, town.model, town.clock())
            await town.ledger.close()
            return passage, account

        passage, account = asyncio.run(story())
    assert passage.mode == "sealed"
    assert account.requests in (1, 2)  # the charge that was given up may have been done


def test_what_one_caller_does_changes_no_other_callers_price(town):
    """Nor does what he claims: another's name in headers and bodies names nobody."""
    alone = [town.visit(town.ask([n, 0])).work.seconds for n in range(5)]
    thief = Caller("key:thief")
    good, town.upstream.handler = town.upstream.handler, lambda path, body: town.say(town.unsure(1))
    for n in range(40):
        town.visit(town.ask([n, 7]), thief)
    town.upstream.handler = good
    client = TestClient(application(town.house()))
    claims = {"x-api-key": "bob-key", "x-caller": "key:alice", "forwarded": "for=key:alice", "from": "key:alice"}
    body = town.ask([1, 1], parameters={"caller": "key:alice"})
    assert client.post(town.path, content=body, headers=claims).status_code == 402
    after = [town.visit(town.ask([100 + n, 0])).work.seconds for n in range(5)]
    assert after == pytest.approx(alone)
    assert (town.account().rows, town.account(town.bob).rows) == (10, 1)
    assert town.account(thief).rows == 40


def test_the_public_side_tells_no_caller_of_another(town):
    """Whatever an operator can read is not there, whoever asks, and a receipt speaks of its own request only."""
    town.visit(town.ask([1, 2]), town.bob)
    client = TestClient(application(town.house()))
    for path in ("/api/accounts", "/api/log", "/metrics", "/dashboard/", "/livez", "/api/", "/try/"):
        response = client.get(path, headers=KEY)
        assert (response.status_code, "not served here" in response.text) == (404, True)
        assert "bob" not in response.text


def test_every_refused_redemption_looks_the_same(town):
    """Which part was wrong is not said: token, caller, or solution."""
    town.modes = ("redeem",)
    toll = town.visit(town.ask([1, 2])).toll
    counters, rng = solve(toll.challenge, SolveControl()).counters, random.Random(3)
    client = TestClient(application(town.house()))

    def shown(token, solution, key="alice-key"):
        body = wire.encode_redemption(token, solution)
        return client.post(wire.REDEEM_PATH, content=body, headers={"x-api-key": key})

    assert shown(toll.payload, counters).status_code == 200
    refused = [shown(toll.payload, counters, "bob-key"), shown(toll.payload, [n + 1 for n in counters])]
    for _ in range(20):
        spoilt = bytearray(toll.payload)
        spoilt[rng.randrange(len(spoilt))] ^= 1 << rng.randrange(8)
        refused.append(shown(bytes(spoilt), counters))
    assert {(each.status_code, each.content) for each in refused} == {(403, refused[0].content)}


def test_an_unknown_key_is_hashed_like_a_known_one_before_anything_is_compared(town, monkeypatch):
    """So how long a refusal takes does not tell how much of a key was right: only hashes are looked up."""
    from modeltoll.gateway.callers import identify  # noqa: PLC0415

    hashed, real = [], identify.hash_key
    monkeypatch.setattr(identify, "hash_key", lambda key: hashed.append(key) or real(key))
    client = TestClient(application(town.house()))
    for key in ("alice-key", "alice-kez", "x", "alice-key" * 100):
        client.post(town.path, content=town.ask([1, 2]), headers={"x-api-key": key})
    assert hashed == ["alice-key", "alice-kez", "x", "alice-key" * 100]
    assert all(len(known) == 64 for known in town.callers.keys)
