"""Neighbours that misbehave: a model server that comes and goes, a ledger that is slow or dead, a clock that jumps."""

from __future__ import annotations

import asyncio
import itertools
import math
import random

import pytest
from starlette.testclient import TestClient

from modeltoll import wire
from modeltoll.errors import AnswerError, LedgerError, TokenExpired, UpstreamError, UpstreamTimeout
from modeltoll.gateway.core.request import GateRequest
from modeltoll.gateway.core.tolls import redeem
from modeltoll.gateway.public.app import application
from modeltoll.ledger.from_url import ledger_from_url
from modeltoll.puzzle.proof import proof_of
from modeltoll.puzzle.puzzle import SolveControl
from modeltoll.puzzle.solver import solve
from modeltoll.records import Answer, Caller
from modeltoll.testing.servers import postgres_server, valkey_server
from modeltoll.wire import Accept

JSON_TYPE = {"content-type": "application/json"}
KEY = JSON_TYPE | {"x-api-key": "alice-key"}
CALLERS = 10_000


def test_of_a_model_server_that_flaps_only_its_good_answers_are_charged_and_released(harness):
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
    good = harness.upstream.handler

    def says(path, body):
        mood = next(moods)
        if isinstance(mood, Exception):
            raise mood
        return good(path, body) if mood is None else mood

    harness.upstream.handler = says
    client = TestClient(application(harness.components()), raise_server_exceptions=False)
    statuses = [
        client.post(harness.path, content=harness.infer_body([n, n]), headers=KEY).status_code for n in range(50)
    ]
    assert {status: statuses.count(status) for status in set(statuses)} == {402: 10, 502: 35, 504: 5}
    assert (harness.account().rows, harness.account().requests, len(harness.log())) == (10, 10, 10)


def test_ten_thousand_callers_at_once_each_have_an_account_and_a_toll(harness):
    harness.allowed_puzzles = ("sha256",)
    gate = harness.gate()

    async def all_at_once():
        visits = [
            GateRequest(Caller(f"key:{n}"), harness.path, harness.infer_body([n, 1]), Accept(receipts=True))
            for n in range(CALLERS)
        ]
        return await asyncio.gather(*(gate.handle(visit) for visit in visits))

    results = asyncio.run(all_at_once())
    accounts = asyncio.run(harness.ledger.largest(2 * CALLERS))
    assert {result.mode for result in results} == {"sealed"}
    assert {account.rows for account in accounts} == {1}
    assert len(accounts) == CALLERS


JUMPS = [1.0, -3600.0, 1e9, -1e9, 0.0, 86_400.0 * 400, -86_400.0 * 800]


def test_a_clock_that_jumps_changes_no_row_count_and_no_price_is_spoilt_by_it(harness):
    """Forward by decades and back: counts stay finite and within what was seen, and the row price is the same."""
    prices = []
    for number, jump in enumerate(JUMPS):
        harness.clock.now = max(0.0, harness.clock() + jump)
        result = harness.handle(harness.infer_body([number, 2]))
        prices.append(result.work.seconds)
        account = harness.account()
        assert account.rows == number + 1
        assert min(account.evidence.counts) >= 0
        assert account.evidence.rows <= number + 1
    assert all(math.isclose(price, prices[0]) for price in prices)


def test_a_token_is_judged_by_the_clock_of_its_redemption(harness):
    """Expired when the clock has jumped ahead, good again when it is put right: nothing is remembered of the refusal."""
    harness.modes = ("redeem",)
    toll = harness.handle(harness.infer_body([1, 2])).toll
    body = harness.redemption(toll)
    harness.clock.advance(1e6)
    with pytest.raises(TokenExpired):
        redeem(harness.runtime, harness.alice, body)
    harness.clock.advance(-1e6)
    assert redeem(harness.runtime, harness.alice, body)[0].status == 200


@pytest.mark.parametrize("server", [postgres_server, valkey_server])
def test_while_the_ledger_is_dead_the_declared_choice_is_kept_and_afterwards_everything_goes_on(harness, server):
    """``refuse`` releases nothing; ``release`` asks the row price, says so, and charges again when the ledger is back."""
    with server() as running:
        harness.ledger = ledger_from_url(running.url)

        async def story():
            refusing, harness.without_ledger = harness.gate(), True
            releasing = harness.gate()
            await harness.ledger.open()
            before = await refusing.handle(harness.request(harness.infer_body([1, 1])))
            await asyncio.to_thread(running.kill)
            with pytest.raises(LedgerError) as caught:
                await refusing.handle(harness.request(harness.infer_body([2, 2])))
            meanwhile = await releasing.handle(harness.request(harness.infer_body([3, 3])))
            await asyncio.to_thread(running.start)
            after = await refusing.handle(harness.request(harness.infer_body([4, 4])))
            await harness.ledger.close()
            return before, caught.value, meanwhile, after

        before, error, meanwhile, after = asyncio.run(story())
    assert error.status == 503
    assert "hunter2" not in str(error) + error.private
    assert (before.in_ledger, meanwhile.in_ledger, after.in_ledger) == (True, False, True)
    assert meanwhile.toll is not None
    assert meanwhile.answer is None
    assert math.isclose(meanwhile.work.seconds, before.work.rows_seconds)


@pytest.mark.parametrize("server", [postgres_server, valkey_server])
def test_a_ledger_that_hangs_times_out_and_releases_no_answer(harness, server):
    with server() as running:
        harness.ledger = ledger_from_url(f"{running.url}?timeout=1")

        async def story():
            gate = harness.gate()
            await harness.ledger.open()
            with running.paused(), pytest.raises(LedgerError):
                await gate.handle(harness.request(harness.infer_body([1, 1])))
            result = await gate.handle(harness.request(harness.infer_body([2, 2])))
            account = await harness.ledger.account(harness.alice, harness.model)
            await harness.ledger.close()
            return result, account

        result, account = asyncio.run(story())
    assert result.mode == "sealed"
    assert account.requests in (1, 2)  # the charge that was given up may have been done


def test_what_one_caller_does_changes_no_other_callers_price(harness):
    """Nor does another caller's name in headers or bodies."""
    alone = [harness.handle(harness.infer_body([n, 0])).work.seconds for n in range(4)]
    thief = Caller("key:thief")
    good, harness.upstream.handler = (
        harness.upstream.handler,
        lambda path, body: harness.answer(harness.uncertain_scores(1)),
    )
    for n in range(40):
        harness.handle(harness.infer_body([n, 7]), thief)
    harness.upstream.handler = good
    client = TestClient(application(harness.components()))
    claims = JSON_TYPE | {
        "x-api-key": "bob-key",
        "x-caller": "key:alice",
        "forwarded": "for=key:alice",
        "from": "key:alice",
    }
    body = harness.infer_body([1, 1], parameters={"caller": "key:alice"})
    assert client.post(harness.path, content=body, headers=claims).status_code == 400
    body = harness.infer_body([1, 1], id="key:alice")
    assert client.post(harness.path, content=body, headers=claims).status_code == 402
    after = [harness.handle(harness.infer_body([100 + n, 0])).work.seconds for n in range(4)]
    assert after == pytest.approx(alone)
    assert (harness.account().rows, harness.account(harness.bob).rows) == (8, 1)
    assert harness.account(thief).rows == 40


def test_the_public_side_shows_no_caller_to_another(harness):
    """The admin pages are not served there to any caller, and a receipt holds its own request only."""
    harness.handle(harness.infer_body([1, 2]), harness.bob)
    client = TestClient(application(harness.components()))
    for path in ("/api/accounts", "/api/log", "/metrics", "/dashboard/", "/livez", "/api/", "/try/"):
        response = client.get(path, headers=KEY)
        assert (response.status_code, "not served here" in response.text) == (404, True)
        assert "bob" not in response.text


def test_every_refused_redemption_looks_the_same(harness):
    """The answer does not show which part was wrong: token, caller or solution."""
    harness.modes = ("redeem",)
    toll = harness.handle(harness.infer_body([1, 2])).toll
    proof, rng = proof_of(solve(toll.challenge, SolveControl())), random.Random(3)
    client = TestClient(application(harness.components()))

    def shown(token, proof, key="alice-key"):
        body = wire.encode_redemption(token, proof=proof)
        return client.post(wire.REDEEM_PATH, content=body, headers=JSON_TYPE | {"x-api-key": key})

    assert shown(toll.payload, proof).status_code == 200
    refused = [shown(toll.payload, proof, "bob-key"), shown(toll.payload, proof[::-1])]
    for _ in range(20):
        spoilt = bytearray(toll.payload)
        spoilt[rng.randrange(len(spoilt))] ^= 1 << rng.randrange(8)
        refused.append(shown(bytes(spoilt), proof))
    assert {(each.status_code, each.content) for each in refused} == {(403, refused[0].content)}


def test_an_unknown_key_is_hashed_like_a_known_one_before_anything_is_compared(harness, monkeypatch):
    """So how long a refusal takes does not tell how much of a key was right: only hashes are looked up."""
    from modeltoll.gateway.callers import identify  # noqa: PLC0415

    hashed, real = [], identify.hash_key
    monkeypatch.setattr(identify, "hash_key", lambda key: hashed.append(key) or real(key))
    client = TestClient(application(harness.components()))
    for key in ("alice-key", "alice-kez", "x", "alice-key" * 100):
        client.post(harness.path, content=harness.infer_body([1, 2]), headers=JSON_TYPE | {"x-api-key": key})
    assert hashed == ["alice-key", "alice-kez", "x", "alice-key" * 100]
    assert all(len(known) == 64 for known in harness.identifier.keys)
