"""Admission puzzles are asked of new callers, and of callers who hold more tolls than they can have solved."""

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
from modeltoll.gateway.settings.gateway import Settings
from modeltoll.puzzle.puzzle import SolveControl
from modeltoll.puzzle.solver import solve
from modeltoll.records import Answer, Caller
from modeltoll.testing.clock import FakeClock
from modeltoll.testing.model_servers import serving

TERMS = AdmissionTerms(seconds=1e-4, new_requests=2, cores=4.0, backlog_seconds=60.0)
ANONYMOUS = Caller("net:198.51.100.0/24")
ALICE = Caller("key:alice")
JSON_TYPE = {"content-type": "application/json"}


@pytest.fixture
def clock():
    return FakeClock(1000.0)


@pytest.fixture
def admission(clock):
    return AdmissionControl(TERMS, clock)


# Which callers are asked


def test_an_anonymous_caller_is_asked_for_its_first_requests_and_a_key_never(admission):
    for _ in range(TERMS.new_requests):
        assert admission.required_work(ANONYMOUS, 3).seconds == TERMS.seconds
        admission.record(ANONYMOUS, 0.1)
    assert admission.required_work(ANONYMOUS, 3) is None
    assert admission.required_work(Caller("net:203.0.113.0/24"), 3) is not None
    assert admission.required_work(ALICE, 3) is None


def test_a_caller_with_more_work_than_its_cores_could_do_is_asked_until_they_could(admission, clock):
    """61 s of tolls at once cannot have been opened; a quarter of a second later 4 cores could have done one of them."""
    admission.record(ALICE, 30.0)
    assert admission.required_work(ALICE, 1) is None
    admission.record(ALICE, 31.0)
    work = admission.required_work(ALICE, 1)
    assert (work.seconds, work.new_account_seconds, work.rows_seconds, work.rows) == (1e-4, 1e-4, 0.0, 1)
    clock.advance(0.25)
    assert admission.required_work(ALICE, 1) is None
    admission.record(ALICE, 0.5)
    assert admission.required_work(ALICE, 1) is not None
    clock.advance(-3600.0)
    assert admission.required_work(ALICE, 1) is not None  # a clock set back opens nothing


def test_a_caller_whose_cores_keep_up_with_its_work_is_never_asked(admission, clock):
    for _ in range(10_000):
        admission.record(ALICE, 4.0)
        clock.advance(1.0)
        assert admission.required_work(ALICE, 1) is None


def test_a_ticket_can_be_used_once_and_is_kept_until_its_token_expires(admission, clock):
    admission.use_ticket(AdmissionTicket(b"one", clock() + 60))
    admission.use_ticket(AdmissionTicket(b"two", clock() + 60))
    with pytest.raises(TokenRefused):
        admission.use_ticket(AdmissionTicket(b"one", clock() + 60))
    clock.advance(60)
    admission.use_ticket(AdmissionTicket(b"three", clock() + 60))
    assert list(admission._used) == [b"three"]


def test_the_memory_of_callers_is_bounded_and_a_dropped_caller_counts_as_new(admission, monkeypatch):
    monkeypatch.setattr("modeltoll.gateway.core.admission._MAX_CALLERS", 3)
    for number in range(5):
        for _ in range(2):
            admission.record(Caller(f"net:10.0.{number}.0/24"), 0.0)
    asked = [admission.required_work(Caller(f"net:10.0.{number}.0/24"), 1) is not None for number in range(5)]
    assert asked == [True, True, False, False, False]


# At the gate


@pytest.fixture
def harness(harness):
    harness.admission = AdmissionControl(TERMS, harness.clock)
    return harness


def solved(result):
    toll = result.toll
    return wire.encode_redemption(toll.payload, solve(toll.challenge, SolveControl()).counters)


def test_the_model_server_is_not_asked_and_nothing_is_charged_before_the_puzzle_is_solved(harness):
    result = harness.handle(harness.infer_body([1, 2]), ANONYMOUS)
    assert (result.mode, result.toll.admission, result.toll.mode) == ("entry", True, "redeem")
    assert (harness.upstream.requests, harness.account(ANONYMOUS), harness.log()) == ([], None, [])


def test_a_redeemed_admission_toll_is_the_unchanged_request_and_passes_the_gate_once(harness):
    body, gate = harness.infer_body([1, 2]), harness.gate()
    result = harness.handle(body, ANONYMOUS, gate=gate)
    admitted = redeem(harness.runtime, ANONYMOUS, solved(result))
    assert (admitted.model, admitted.path, admitted.body) == (harness.model, harness.path, body)
    request = GateRequest(
        ANONYMOUS, admitted.path, admitted.body, wire.Accept(), admitted.content_type, admitted.ticket
    )
    after = asyncio.run(gate.handle(request))
    assert (after.mode, after.toll.admission) == ("sealed", False)
    assert harness.upstream.requests == [(harness.path, body)]
    with pytest.raises(TokenRefused):
        asyncio.run(gate.handle(request))
    assert len(harness.upstream.requests) == 1


def test_an_admission_token_belongs_to_its_caller_and_expires(harness):
    redemption = solved(harness.handle(harness.infer_body([1, 2]), ANONYMOUS))
    with pytest.raises(TokenRefused):
        redeem(harness.runtime, ALICE, redemption)
    toll = harness.handle(harness.infer_body([1, 2]), ANONYMOUS).toll
    with pytest.raises(TokenRefused):
        redeem(harness.runtime, ANONYMOUS, wire.encode_redemption(toll.payload, (2**60,) * len(toll.challenge.parts)))
    harness.clock.advance(120)
    with pytest.raises(TokenExpired):
        redeem(harness.runtime, ANONYMOUS, redemption)


def test_a_token_of_an_answer_admits_no_request(harness):
    result = harness.handle(harness.infer_body([1, 2]), harness.alice, wire.Accept(mode="redeem"))
    assert isinstance(redeem(harness.runtime, harness.alice, solved(result)), Answer)


def test_a_bad_request_is_refused_before_an_admission_puzzle_is_asked(harness):
    with pytest.raises(Exception, match="JSON") as caught:
        harness.handle(b"{", ANONYMOUS)
    assert caught.value.status == 400


@pytest.mark.parametrize("case", ["shadow", "exempt", "known key"])
def test_shadow_mode_exempt_callers_and_known_keys_need_no_admission(harness, case):
    harness.mode = "shadow" if case == "shadow" else "enforce"
    who = {"shadow": ANONYMOUS, "exempt": Caller(ANONYMOUS.name, exempt=True), "known key": harness.alice}[case]
    result = harness.handle(harness.infer_body([1, 2]), who)
    assert (result.mode == "entry", len(harness.upstream.requests)) == (False, 1)


def test_the_tolls_of_answers_count_as_unsolved_work(harness):
    harness.admission = AdmissionControl(AdmissionTerms(1e-4, 0, cores=1.0, backlog_seconds=0.0), harness.clock)
    gate, body = harness.gate(), harness.infer_body([1, 2])
    assert [harness.handle(body, gate=gate).mode for _ in range(2)] == ["sealed", "entry"]
    harness.clock.advance(1.0)
    assert harness.handle(body, gate=gate).mode == "sealed"


# Over HTTP


@pytest.mark.parametrize("mode", ["sealed", "redeem"])
def test_a_client_solves_admission_puzzles_on_its_own(harness, mode):
    purse = Purse()
    with serving(harness.application()) as url:
        headers = {wire.ACCEPT_HEADER: f"sha256, argon2id; mode={mode}", "content-type": "application/json"}
        with httpx.Client(transport=TollTransport(purse=purse), headers=headers) as client:
            responses = [client.post(url + harness.path, content=harness.infer_body([n, 2])) for n in range(3)]
    for response in responses:
        assert (response.status_code, response.content) == (200, harness.answer(harness.confident_scores(1)).body)
    assert len(purse.payments) == 2 * TERMS.new_requests + 1
    assert len(harness.upstream.requests) == 3
    assert harness.metric('modeltoll_requests_total{mode="entry",model="digits"}') == TERMS.new_requests


def test_a_client_that_never_pays_never_reaches_the_model_server(harness):
    with serving(harness.application()) as url:
        for n in range(5):
            response = httpx.post(url + harness.path, content=harness.infer_body([n, 2]), headers=JSON_TYPE)
            assert (response.status_code, response.json()["toll"]["entry"]) == (402, True)
            assert response.headers["cache-control"] == "no-store"
    assert harness.upstream.requests == []


# Settings

MODEL = {"tariff": "t", "output": {"name": "p", "kind": "logits"}, "measures": [{"name": "gap"}]}


def settings(terms, **model):
    return Settings(upstream={"url": "http://a"}, models={"m": MODEL | model}, callers={"admission": terms})


def test_admission_is_off_unless_the_settings_give_it_work():
    assert build_admission(settings({})) is None
    admission = build_admission(settings({"seconds": 0.05, "new_requests": 3, "cores": 8, "backlog_seconds": 5}))
    assert admission._terms == AdmissionTerms(0.05, 3, 8.0, 5.0)


@pytest.mark.parametrize("members", [{"seconds": -1}, {"seconds": math.inf}, {"cores": 0}, {"new_requests": -1}])
def test_terms_that_mean_nothing_are_refused(members):
    with pytest.raises((SettingsError, ValueError), match=next(iter(members))):
        settings({"seconds": 0.05} | members)


def test_admission_needs_redeem_mode():
    with pytest.raises(ValueError, match=r"add redeem to models\.m\.puzzle\.modes"):
        settings({"seconds": 0.05}, puzzle={"modes": ["sealed"]})
    assert build_admission(settings({}, puzzle={"modes": ["sealed"]})) is None
