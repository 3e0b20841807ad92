"""Entry puzzles: solved before the model server is asked, by those who are new or hold more tolls than they can open."""

from __future__ import annotations

import asyncio
import math

import httpx
import pytest

from modeltoll import wire
from modeltoll.client.httpx import TollTransport
from modeltoll.client.purse import Purse
from modeltoll.errors import SettingsError, TokenExpired, TokenRefused
from modeltoll.gateway.assembly.callers import build_admission
from modeltoll.gateway.core.admission import AdmissionControl, AdmissionTerms, AdmissionTicket
from modeltoll.gateway.core.request import GateRequest
from modeltoll.gateway.core.tolls import redeem
from modeltoll.gateway.settings.load import Settings
from modeltoll.puzzle.puzzle import SolveControl
from modeltoll.puzzle.solver import solve
from modeltoll.records import Answer, Caller
from modeltoll.testing.clock import FakeClock
from modeltoll.testing.protocols import serving

TERMS = AdmissionTerms(seconds=1e-4, new_requests=2, cores=4.0, backlog=60.0)
NOBODY = Caller("net:198.51.100.0/24")
ALICE = Caller("key:alice")


@pytest.fixture
def clock():
    return FakeClock(1000.0)


@pytest.fixture
def entrance(clock):
    return AdmissionControl(TERMS, clock)


# Who is asked


def test_an_anonymous_caller_is_new_for_his_first_requests_and_a_key_never_is(entrance):
    for _ in range(TERMS.new_requests):
        assert entrance.work(NOBODY, 3).seconds == TERMS.seconds
        entrance.let_in(NOBODY, 0.1)
    assert entrance.work(NOBODY, 3) is None
    assert entrance.work(Caller("net:203.0.113.0/24"), 3) is not None
    assert entrance.work(ALICE, 3) is None


def test_whoever_got_more_work_than_his_cores_could_do_is_asked_until_they_could(entrance, clock):
    """61 s of tolls at once cannot have been opened; a quarter of a second later 4 cores could have done one of them."""
    entrance.let_in(ALICE, 30.0)
    assert entrance.work(ALICE, 1) is None
    entrance.let_in(ALICE, 31.0)
    work = entrance.work(ALICE, 1)
    assert (work.seconds, work.new_account_seconds, work.rows_seconds, work.rows) == (1e-4, 1e-4, 0.0, 1)
    clock.advance(0.25)
    assert entrance.work(ALICE, 1) is None
    entrance.let_in(ALICE, 0.5)
    assert entrance.work(ALICE, 1) is not None
    clock.advance(-3600.0)
    assert entrance.work(ALICE, 1) is not None  # a clock set back opens nothing


def test_work_at_the_pace_of_his_cores_never_brings_a_caller_to_the_entrance(entrance, clock):
    for _ in range(10_000):
        entrance.let_in(ALICE, 4.0)
        clock.advance(1.0)
        assert entrance.work(ALICE, 1) is None


def test_a_ticket_lets_in_once_and_is_remembered_while_it_could_be_shown(entrance, clock):
    entrance.take(AdmissionTicket(b"one", clock() + 60))
    entrance.take(AdmissionTicket(b"two", clock() + 60))
    with pytest.raises(TokenRefused):
        entrance.take(AdmissionTicket(b"one", clock() + 60))
    clock.advance(60)
    entrance.take(AdmissionTicket(b"three", clock() + 60))
    assert list(entrance._taken) == [b"three"]


def test_the_memory_of_callers_is_bounded_and_who_is_forgotten_is_new(entrance, monkeypatch):
    monkeypatch.setattr("modeltoll.gateway.core.admission._CALLERS", 3)
    for number in range(5):
        for _ in range(2):
            entrance.let_in(Caller(f"net:10.0.{number}.0/24"), 0.0)
    asked = [entrance.work(Caller(f"net:10.0.{number}.0/24"), 1) is not None for number in range(5)]
    assert asked == [True, True, False, False, False]


# At the gate


@pytest.fixture
def guarded(town):
    town.entrance = AdmissionControl(TERMS, town.clock)
    return town


def solved(passage):
    toll = passage.toll
    return wire.encode_redemption(toll.payload, solve(toll.challenge, SolveControl()).counters)


def test_nobody_is_asked_and_nothing_is_charged_before_the_entry_is_solved(guarded):
    passage = guarded.visit(guarded.ask([1, 2]), NOBODY)
    assert (passage.mode, passage.toll.admission, passage.toll.mode) == ("entry", True, "redeem")
    assert (guarded.upstream.requests, guarded.account(NOBODY), guarded.log()) == ([], None, [])


def test_a_redeemed_entry_is_the_request_as_it_was_and_passes_the_gate_once(guarded):
    body, gate = guarded.ask([1, 2]), guarded.gate()
    passage = guarded.visit(body, NOBODY, gate=gate)
    entered = redeem(guarded.chance, NOBODY, solved(passage))
    assert (entered.model, entered.path, entered.body) == (guarded.model, guarded.path, body)
    visit = GateRequest(NOBODY, entered.path, entered.body, wire.Accept(), entered.content_type, entered.ticket)
    inside = asyncio.run(gate.visit(visit))
    assert (inside.mode, inside.toll.admission) == ("sealed", False)
    assert guarded.upstream.requests == [(guarded.path, body)]
    with pytest.raises(TokenRefused):
        asyncio.run(gate.visit(visit))
    assert len(guarded.upstream.requests) == 1


def test_an_entry_is_its_callers_own_and_ends(guarded):
    redemption = solved(guarded.visit(guarded.ask([1, 2]), NOBODY))
    with pytest.raises(TokenRefused):
        redeem(guarded.chance, ALICE, redemption)
    toll = guarded.visit(guarded.ask([1, 2]), NOBODY).toll
    with pytest.raises(TokenRefused):
        redeem(guarded.chance, NOBODY, wire.encode_redemption(toll.payload, (2**60,) * len(toll.challenge.parts)))
    guarded.clock.advance(120)
    with pytest.raises(TokenExpired):
        redeem(guarded.chance, NOBODY, redemption)


def test_a_token_of_an_answer_is_no_entry(guarded):
    passage = guarded.visit(guarded.ask([1, 2]), guarded.alice, wire.Accept(mode="redeem"))
    assert isinstance(redeem(guarded.chance, guarded.alice, solved(passage)), Answer)


def test_a_bad_request_is_refused_before_anybody_works_for_its_entry(guarded):
    with pytest.raises(Exception, match="JSON") as caught:
        guarded.visit(b"{", NOBODY)
    assert caught.value.status == 400


@pytest.mark.parametrize("case", ["shadow", "exempt", "known key"])
def test_shadow_mode_and_exempt_callers_know_no_entrance(guarded, case):
    guarded.mode = "shadow" if case == "shadow" else "enforce"
    who = {"shadow": NOBODY, "exempt": Caller(NOBODY.name, exempt=True), "known key": guarded.alice}[case]
    passage = guarded.visit(guarded.ask([1, 2]), who)
    assert (passage.mode == "entry", len(guarded.upstream.requests)) == (False, 1)


def test_what_the_gate_gives_out_counts_against_the_caller(guarded):
    guarded.entrance = AdmissionControl(AdmissionTerms(1e-4, 0, cores=1.0, backlog=0.0), guarded.clock)
    gate, body = guarded.gate(), guarded.ask([1, 2])
    assert [guarded.visit(body, gate=gate).mode for _ in range(2)] == ["sealed", "entry"]
    guarded.clock.advance(1.0)
    assert guarded.visit(body, gate=gate).mode == "sealed"


# Over HTTP


@pytest.mark.parametrize("mode", ["sealed", "redeem"])
def test_a_client_walks_through_the_entrance_without_its_caller_noticing(guarded, mode):
    purse = Purse()
    with serving(guarded.application()) as url:
        headers = {wire.ACCEPT_HEADER: f"sha256, argon2id; mode={mode}"}
        with httpx.Client(transport=TollTransport(purse=purse), headers=headers) as client:
            responses = [client.post(url + guarded.path, content=guarded.ask([n, 2])) for n in range(3)]
    for response in responses:
        assert (response.status_code, response.content) == (200, guarded.say(guarded.sure(1)).body)
    assert len(purse.payments) == 2 * TERMS.new_requests + 1
    assert len(guarded.upstream.requests) == 3
    assert guarded.metric('modeltoll_requests_total{mode="entry",model="digits"}') == TERMS.new_requests


def test_a_client_that_never_pays_never_reaches_the_model_server(guarded):
    with serving(guarded.application()) as url:
        for n in range(5):
            response = httpx.post(url + guarded.path, content=guarded.ask([n, 2]))
            assert (response.status_code, response.json()["toll"]["entry"]) == (402, True)
            assert response.headers["cache-control"] == "no-store"
    assert guarded.upstream.requests == []


# Settings

MODEL = {"tariff": "t", "output": {"name": "p", "kind": "logits"}, "measures": [{"name": "gap"}]}


def settings(entry, **model):
    return Settings(upstream={"url": "http://a"}, models={"m": MODEL | model}, callers={"entry": entry})


def test_there_is_an_entrance_where_the_settings_give_it_work():
    assert build_admission(settings({})) is None
    entrance = build_admission(settings({"seconds": 0.05, "new_requests": 3, "cores": 8, "backlog_seconds": 5}))
    assert entrance._terms == AdmissionTerms(0.05, 3, 8.0, 5.0)


@pytest.mark.parametrize("members", [{"seconds": -1}, {"seconds": math.inf}, {"cores": 0}, {"new_requests": -1}])
def test_terms_that_mean_nothing_are_refused(members):
    with pytest.raises((SettingsError, ValueError), match=next(iter(members))):
        settings({"seconds": 0.05} | members)


def test_a_model_whose_tolls_cannot_be_redeemed_has_no_entrance():
    with pytest.raises(ValueError, match=r"add redeem to models\.m\.puzzle\.modes"):
        settings({"seconds": 0.05}, puzzle={"modes": ["sealed"]})
    assert build_admission(settings({}, puzzle={"modes": ["sealed"]})) is None
